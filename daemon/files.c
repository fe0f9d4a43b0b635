#include "daemon/files.h"

#include "daemon/worker.h"
#include "tls/libctx.h"
#include "tls/ticket_key_file.h"
#include "tls/ticket_keys.h"
#include "tls/verify/crl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static result load_crls(struct libctx *libctx, const struct settings *settings, size_t index, struct crl_snapshot **ret,
                        struct error *err)
{
    const struct settings_service *service = settings->services[index];
    result r;

    if (service->crls.n == 0)
        return ERROR_NONE;
    r = crl_snapshot_load(service->crls.items, service->crls.n, libctx_get(libctx), ret, err);
    if (r != ERROR_NONE)
        error_prefix(err, "%s:%u: %s \"%s\"", settings->config->file, service->section->line,
                     service->section->schema->name, service->section->title);
    return r;
}

static result load_ticket_keys(const struct settings *settings, size_t index, struct ticket_keys **ret,
                               struct error *err)
{
    const struct settings_service *service = settings->services[index];
    result r;
    int fd;

    if (service->ticket_keys == NULL)
        return ERROR_NONE;
    r = ticket_key_file_open(service->ticket_keys, &fd, err);
    if (r == ERROR_NONE) {
        *ret = ticket_keys_open(fd, service->ticket_keys, err);
        r = *ret == NULL ? err->category : ERROR_NONE;
        (void)close(fd);
    }
    if (r != ERROR_NONE)
        error_prefix(err, "%s:%u: %s \"%s\"", settings->config->file, service->section->line,
                     service->section->schema->name, service->section->title);
    return r;
}

static void check_service(struct worker_shared *shared, struct libctx *libctx, size_t index,
                          struct config_errors *errors)
{
    const struct settings_service *service = shared->settings->services[index];
    struct settings *one = calloc(1, sizeof(*one));
    struct worker_shared alone = *shared;
    struct worker_shared_service state = {.n_fds = 0};
    struct error err = ERROR_INIT;
    struct worker *worker = NULL;

    if (one == NULL) {
        config_errors_add(errors, service->section->line, "out of memory");
        return;
    }
    *one = *shared->settings;
    one->services[0] = shared->settings->services[index];
    one->n_services = 1;
    alone.settings = one;
    alone.services = &state;
    if (load_crls(libctx, one, 0, &state.crls, &err) == ERROR_NONE &&
        load_ticket_keys(one, 0, &state.ticket_keys, &err) == ERROR_NONE)
        worker = worker_new(&alone, 0, &err);
    if (worker == NULL) {
        /* worker_new() and load_crls() put FILE:LINE in front, as does config_errors_add(). */
        const char *text = strstr(err.text, ": ");

        config_errors_add(errors, service->section->line, "%s", text == NULL ? err.text : text + 2);
    }
    worker_free(worker);
    crl_snapshot_free(state.crls);
    ticket_keys_free(state.ticket_keys);
    free(one);
}

void files_check(const struct program *program, const struct settings *settings, struct config_errors *errors)
{
    struct groups groups = {0};
    struct worker_shared shared = {.program = program, .settings = settings, .groups = &groups};
    struct error err = ERROR_INIT;
    struct libctx *libctx = libctx_new_for_tls(&err);

    if (libctx == NULL)
        config_errors_add(errors, 0, "%s", err.text);
    for (size_t i = 0; i < settings->n_services && libctx != NULL; i++)
        check_service(&shared, libctx, i, errors);
    libctx_free(libctx);
}

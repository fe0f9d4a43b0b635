#include "gateway/responders.h"

#include "base/log.h"
#include "daemon/worker.h"
#include "gateway/gateway_config.h"
#include "tls/context.h"
#include "tls/inquiry.h"
#include "tls/stapler.h"

#include <stdlib.h>
#include <time.h>

struct responders {
    const struct gateway_config_gateway *settings;
    struct context *context; /* borrowed; NULL: none yet */
    struct inquiry *inquiry; /* NULL: nobody is asked */
    struct stapler *stapler; /* NULL: nothing is stapled */
};

static const char *title(const struct responders *responders)
{
    return responders->settings->service.section->title;
}

static void inquiry_problem(void *arg, const char *text)
{
    log_warning("ocsp: no answer", LOG_TEXT("gateway", title(arg)), LOG_TEXT("reason", text));
}

static void stapler_problem(void *arg, const char *text)
{
    log_warning("ocsp: own status", LOG_TEXT("gateway", title(arg)), LOG_TEXT("reason", text));
}

static void stapler_fresh(void *arg, int64_t next_update)
{
    time_t seconds = (time_t)next_update;
    char until[32] = "";
    struct tm parts;

    if (next_update != 0 && gmtime_r(&seconds, &parts) != NULL)
        (void)strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", &parts);
    log_info("ocsp: own status is good and will be stapled", LOG_TEXT("gateway", title(arg)),
             LOG_TEXT("next_update", until[0] == '\0' ? NULL : until));
}

static bool own_certificate(void *arg, X509 **leaf, X509 **issuer)
{
    const struct responders *responders = arg;

    return responders->context != NULL && context_own_certificate(responders->context, leaf, issuer);
}

static result open_inquiry(struct responders *responders, struct worker *worker, struct error *err)
{
    const struct gateway_config_gateway *settings = responders->settings;
    const struct inquiry_config config = {.loop = worker_loop(worker),
                                          .libctx = worker_libctx(worker),
                                          .policy = settings->service.policy,
                                          .responder = settings->ocsp_responder,
                                          .hosts = settings->ocsp_hosts.n > 0 ? settings->ocsp_hosts.items : NULL,
                                          .nonce = settings->ocsp_nonce,
                                          .timeout_ms = settings->ocsp_timeout_ms,
                                          .problem = inquiry_problem,
                                          .arg = responders};

    if (!settings->service.asks_ocsp)
        return ERROR_NONE;
    responders->inquiry = inquiry_new(&config, err);
    return responders->inquiry == NULL ? ERROR_INTERNAL : ERROR_NONE;
}

static result open_stapler(struct responders *responders, struct worker *worker, struct error *err)
{
    const struct gateway_config_gateway *settings = responders->settings;
    const struct stapler_config config = {.loop = worker_loop(worker),
                                          .libctx = worker_libctx(worker),
                                          .policy = settings->service.policy,
                                          .file = settings->staple_file,
                                          .timeout_ms = settings->ocsp_timeout_ms,
                                          .own = own_certificate,
                                          .problem = stapler_problem,
                                          .fresh = stapler_fresh,
                                          .arg = responders};

    if (!settings->staple && settings->staple_file == NULL)
        return ERROR_NONE;
    responders->stapler = stapler_new(&config, err);
    return responders->stapler == NULL ? err->category : ERROR_NONE;
}

result responders_new(struct worker *worker, const struct gateway_config_gateway *settings, struct responders **ret,
                      struct error *err)
{
    struct responders *responders = calloc(1, sizeof(*responders));
    result r;

    if (responders == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    responders->settings = settings;
    r = open_inquiry(responders, worker, err);
    if (r == ERROR_NONE)
        r = open_stapler(responders, worker, err);
    if (r != ERROR_NONE) {
        responders_free(responders);
        return r;
    }
    *ret = responders;
    return ERROR_NONE;
}

void responders_fill(const struct responders *responders, struct context_config *config)
{
    config->inquiry = responders->inquiry;
    config->stapler = responders->stapler;
}

void responders_serve(struct responders *responders, struct context *context)
{
    responders->context = context;
}

void responders_free(struct responders *responders)
{
    if (responders == NULL)
        return;
    stapler_free(responders->stapler);
    inquiry_free(responders->inquiry);
    free(responders);
}

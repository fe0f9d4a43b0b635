#include "daemon/settings_pin.h"

#include "base/text.h"
#include "pkcs11/pin.h"

#include <limits.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void settings_pin_check(const struct config *config, struct settings_identity *identity, struct config_errors *errors)
{
    unsigned line =
        config_line(identity->section, config_given(identity->section, "pin-source") ? "pin-source" : "uri");
    struct pin_source *source = NULL;
    struct error err = ERROR_INIT;
    const char *path;

    if (identity->pin_source == NULL)
        return;
    if (strcmp(identity->pin_source, "none") == 0 || identity->pin_source[0] == '\0') {
        free(identity->pin_source);
        identity->pin_source = NULL;
        return;
    }
    path = text_after(identity->pin_source, "file:");
    if (path != NULL && path[0] != '/' && path[0] != '\0') {
        char *text = text_format("file:%s/%s", config->folder, path);

        if (text != NULL) {
            free(identity->pin_source);
            identity->pin_source = text;
        }
    }
    if (pin_source_new(identity->pin_source, -1, &source, &err) != ERROR_NONE)
        config_errors_add(errors, line, "pin-source: %s", err.text);
    pin_source_free(source);
}

char *settings_pin_file(const char *pin_source)
{
    const char *path = text_after(pin_source, "file:");
    const char *name = text_after(pin_source, "credential:");
    const char *folder = getenv("CREDENTIALS_DIRECTORY");

    if (path != NULL)
        return strdup(path);
    return name == NULL || folder == NULL ? NULL : text_format("%s/%s", folder, name);
}

/* realpath() of the longest part that exists, with the rest appended. */
static bool resolve(const char *path, char out[PATH_MAX])
{
    char copy[PATH_MAX];
    char *slash;
    char rest[PATH_MAX] = "";
    size_t length;

    if (strlen(path) >= sizeof(copy))
        return false;
    memcpy(copy, path, strlen(path) + 1);
    while (realpath(copy, out) == NULL) {
        char longer[PATH_MAX];

        slash = strrchr(copy, '/');
        if (slash == NULL)
            return false;
        if (snprintf(longer, sizeof(longer), "%s%s", slash, rest) >= (int)sizeof(longer))
            return false;
        memcpy(rest, longer, strlen(longer) + 1);
        if (slash == copy)
            slash++;
        *slash = '\0';
    }
    length = strcmp(out, "/") == 0 ? 0 : strlen(out);
    return snprintf(out + length, PATH_MAX - length, "%s", rest) < (int)(PATH_MAX - length);
}

bool settings_pin_is_below(const char *file, const char *allowed)
{
    char a[PATH_MAX], b[PATH_MAX];
    struct stat one, other;
    const char *rest;

    if (stat(file, &one) == 0 && stat(allowed, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino)
        return true; /* a hard link has another path */
    if (!resolve(file, a) || !resolve(allowed, b))
        return true; /* cannot tell: refuse */
    rest = text_after(a, b);
    return rest != NULL && (rest[0] == '\0' || rest[0] == '/');
}

static void check_one(const struct settings_identity *identity, const struct settings_service *service,
                      const char *allowed, struct config_errors *errors)
{
    char *file = settings_pin_file(identity->pin_source);

    if (file != NULL && allowed != NULL && settings_pin_is_below(file, allowed))
        config_errors_add(errors, config_line(identity->section, "pin-source"),
                          "the PIN file of identity \"%s\" is in %s, which the network process of %s \"%s\" may read; "
                          "keep it elsewhere",
                          identity->section->title, allowed, service->section->schema->name, service->section->title);
    free(file);
}

void settings_check_pin_files(const struct settings *settings, const struct settings_service *service,
                              const char *const *more, size_t n_more, struct config_errors *errors)
{
    for (size_t i = 0; i < settings->n_identities; i++) {
        const struct settings_identity *identity = settings->identities[i];

        if (identity->pin_source == NULL)
            continue;
        check_one(identity, service, service->trust, errors);
        for (size_t k = 0; k < service->crls.n; k++)
            check_one(identity, service, service->crls.items[k], errors);
        for (size_t k = 0; k < n_more; k++)
            check_one(identity, service, more[k], errors);
    }
}

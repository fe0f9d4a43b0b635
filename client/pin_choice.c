#include "client/pin_choice.h"

#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct out {
    char *text;
    size_t size;
};

static result put(const struct out *out, const char *prefix, const char *rest, struct error *err)
{
    int n = snprintf(out->text, out->size, "%s%s", prefix, rest);

    return n < 0 || (size_t)n >= out->size ? error_set(err, ERROR_CONFIG, "the PIN source is too long") : ERROR_NONE;
}

/* The keyholder may run in another folder. */
static result put_file(const struct out *out, const char *path, struct error *err)
{
    char prefix[PATH_MAX + 8] = "file:";
    size_t used = strlen(prefix);

    if (text_after(path, "//") != NULL)
        path += 2; /* file:///path */
    if (*path == '/' || *path == '\0')
        return put(out, "file:", path, err);
    if (getcwd(prefix + used, PATH_MAX) == NULL)
        return error_set(err, ERROR_IO, "the current folder is not known: give the PIN file's absolute path");
    used = strlen(prefix);
    (void)snprintf(prefix + used, sizeof(prefix) - used, "/");
    return put(out, prefix, path, err);
}

result pin_choice_make(const struct pin_choice *choice, char *ret_text, size_t size, struct error *err)
{
    const char *source = choice->option != NULL ? choice->option : choice->uri_source;
    const struct out out = {.text = ret_text, .size = size};
    const char *path;

    if (source == NULL)
        return put(&out, choice->terminal ? "ask" : "", "", err);
    path = text_after(source, "file:");
    if (path != NULL)
        return put_file(&out, path, err);
    if (strcmp(source, "unlock") == 0)
        return error_set(err, ERROR_CONFIG, "the PIN source \"unlock\" is a daemon's: nobody could give it here");
    if (choice->option != NULL)
        return put(&out, source, "", err);
    if (*source == '|')
        return error_set(err, ERROR_CONFIG,
                         "the URI's pin-source names a command, which is not run: use --pin-source file:PATH or ask");
    /* RFC 7512 2.4 leaves the form of the value open; a plain path is what everybody writes. */
    if (*source == '/')
        return put_file(&out, source, err);
    return put(&out, source, "", err);
}

bool pin_choice_asks(const char *source)
{
    return text_after(source, "ask") != NULL || text_after(source, "pinentry") != NULL || strcmp(source, "pinpad") == 0;
}

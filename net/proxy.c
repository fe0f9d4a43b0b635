#include "net/proxy.h"

#include "base/file.h"
#include "base/secret.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define SHOWN_MAX 300

static const struct {
    const char *scheme;
    enum proxy_kind kind;
    uint16_t port; /* where none is given */
} schemes[] = {{"http://", PROXY_HTTP, 3128}, {"socks5://", PROXY_SOCKS5, 1080}};

/* `where` is what may be shown: never what stands before an '@'. */
static result refuse(const char *where, const char *why, struct error *err)
{
    char shown[SHOWN_MAX];

    return error_set(err, ERROR_CONFIG, "proxy \"%s\": %s", text_escape(where, strlen(where), shown, sizeof(shown)),
                     why);
}

static result take_user(const char *user, size_t length, struct proxy *ret, struct error *err)
{
    if (memchr(user, ':', length) != NULL)
        return error_set(err, ERROR_CONFIG,
                         "a proxy's password does not belong into its URL: name a file with "
                         "proxy-password-file");
    if (length == 0 || length > PROXY_CREDENTIAL_MAX)
        return error_set(err, ERROR_CONFIG, "a proxy's user name has 1 to %d bytes", PROXY_CREDENTIAL_MAX);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)user[i] < ' ' || user[i] == 0x7f)
            return error_set(err, ERROR_CONFIG, "a control character in a proxy's user name");
    }
    memcpy(ret->user, user, length);
    return ERROR_NONE;
}

/* address_parse() wants a port: without one, the scheme's. */
static result take_address(const char *where, uint16_t port, struct proxy *ret, struct error *err)
{
    char text[ADDRESS_HOST_MAX + 16];
    const char *colon = strrchr(where, ':');
    bool has_port = colon != NULL && strchr(colon, ']') == NULL;
    struct error why = ERROR_INIT;
    int n;

    if (where[0] == '\0' || strchr(where, '/') != NULL)
        return refuse(where, "http://HOST:PORT or socks5://HOST:PORT is wanted, without a path", err);
    if (has_port)
        n = snprintf(text, sizeof(text), "%s", where);
    else
        n = snprintf(text, sizeof(text), "%s:%u", where, port);
    if (n >= (int)sizeof(text))
        return refuse(where, "the host name is too long", err);
    if (address_parse(text, ADDRESS_CONNECT, &ret->address, &why) != ERROR_NONE)
        return refuse(where, why.text, err);
    if (ret->address.kind != ADDRESS_TCP)
        return refuse(where, "HOST:PORT is wanted", err);
    return ERROR_NONE;
}

result proxy_parse(const char *text, struct proxy *ret, struct error *err)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t length = strlen(schemes[i].scheme);
        struct proxy proxy = {.kind = schemes[i].kind};
        const char *where, *at;
        result r = ERROR_NONE;

        if (strncasecmp(text, schemes[i].scheme, length) != 0)
            continue;
        where = text + length;
        at = strrchr(where, '@');
        if (at != NULL) {
            r = take_user(where, (size_t)(at - where), &proxy, err);
            where = at + 1;
        }
        length = strlen(where);
        if (r == ERROR_NONE && length > 0 && where[length - 1] == '/') { /* "http://proxy:3128/" is what people paste */
            char cut[ADDRESS_HOST_MAX + 16];

            (void)snprintf(cut, sizeof(cut), "%.*s", (int)(length - 1), where);
            r = take_address(length > sizeof(cut) ? where : cut, schemes[i].port, &proxy, err);
        } else if (r == ERROR_NONE) {
            r = take_address(where, schemes[i].port, &proxy, err);
        }
        if (r == ERROR_NONE)
            *ret = proxy;
        return r;
    }
    return error_set(err, ERROR_CONFIG, "a proxy is http://[USER@]HOST:PORT or socks5://[USER@]HOST:PORT");
}

result proxy_read_password(const char *path, struct secret **ret, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct error failure = ERROR_INIT;
    struct secret *secret = NULL;
    result r = ERROR_NONE;

    if (fd < 0)
        return error_set(err, ERROR_CONFIG, "proxy-password-file %s: %s", path, strerror(errno));
    if (file_check_secret(fd, 077, geteuid(), &failure) != ERROR_NONE) {
        r = error_set(err, ERROR_CONFIG, "proxy-password-file %s: %s", path, failure.text);
        goto err0;
    }
    secret = secret_new(err);
    if (secret == NULL) {
        r = ERROR_INTERNAL;
        goto err0;
    }
    if (secret_read(secret, fd, &failure) != ERROR_NONE) {
        r = error_set(err, ERROR_CONFIG, "proxy-password-file %s: cannot be read, or holds a NUL", path);
    } else if (secret_length(secret) == 0 || secret_length(secret) > PROXY_CREDENTIAL_MAX) {
        r = error_set(err, ERROR_CONFIG, "proxy-password-file %s: a password has 1 to %d bytes", path,
                      PROXY_CREDENTIAL_MAX);
    } else {
        *ret = secret;
        secret = NULL;
    }
    secret_free(secret);
err0:
    (void)close(fd);
    return r;
}

/*
 * HTTP responses of whoever answers for a distribution point or OCSP responder, in two pieces: first byte of the input
 * tells where it is cut. And URLs, as certificates and Location fields have them.
 */
#include "net/response.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 4096
#define BODY_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void resolve(const struct response *response)
{
    struct url base, next;

    if (url_parse("http://pki.example/a", &base, NULL) != ERROR_NONE)
        abort();
    if (url_resolve(&base, response_field(response, RESPONSE_LOCATION, URL_MAX + 1), &next, NULL) == ERROR_NONE &&
        (next.target[0] != '/' || strpbrk(next.target, "\r\n ") != NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct response *response = response_new(HEAD_MAX, BODY_MAX);
    size_t cut = size == 0 ? 0 : data[0], length;
    result r = ERROR_NONE;

    if (response == NULL)
        abort();
    if (size > 0) {
        data++;
        size--;
    }
    if (cut > size)
        cut = size;
    if (cut > 0)
        r = response_take(response, (const char *)data, cut, NULL);
    if (r == ERROR_NONE && size > cut && !response_is_complete(response))
        r = response_take(response, (const char *)data + cut, size - cut, NULL);
    if (r == ERROR_NONE && !response_is_complete(response))
        r = response_take(response, "", 0, NULL);
    (void)response_body(response, &length);
    if (length > BODY_MAX || (r == ERROR_NONE && !response_is_complete(response)))
        abort();
    (void)response_max_age(response);
    resolve(response);
    response_free(response);
    return 0;
}

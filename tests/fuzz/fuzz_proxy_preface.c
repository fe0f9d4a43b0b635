/*
 * PROXY headers of load balancers: however the bytes arrive, the outcome is that of all of them at once, a header ends
 * where it says, and MORE is said only of bytes that are all the header's.
 */
#include "net/proxy_preface.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum proxy_preface_status parse(const uint8_t *data, size_t size, struct proxy_preface *ret)
{
    struct error err = ERROR_INIT;
    uint8_t *copy = malloc(size + 1);
    enum proxy_preface_status status;
    char text[ADDRESS_TEXT_MAX];

    if (copy == NULL)
        return PROXY_PREFACE_BAD;
    memcpy(copy, data, size);
    status = proxy_preface_parse(copy, size, ret, &err);
    free(copy);
    if ((status == PROXY_PREFACE_BAD) != (err.category == ERROR_PROTOCOL))
        abort();
    if (status == PROXY_PREFACE_DONE && ret->passed_on) {
        (void)address_socket_text(&ret->source, text, sizeof(text));
        (void)address_socket_text(&ret->destination, text, sizeof(text));
    }
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_preface whole = {.length = 0}, part;
    enum proxy_preface_status status;

    if (size == 0)
        return 0;
    status = parse(data, size, &whole);
    if (status == PROXY_PREFACE_MORE && size >= PROXY_PREFACE_MAX)
        abort();
    if (status == PROXY_PREFACE_DONE && (whole.length > size || whole.length > PROXY_PREFACE_MAX))
        abort();
    for (size_t n = 1; n < size && n < 300; n++) {
        enum proxy_preface_status now = parse(data, n, &part);

        if (status == PROXY_PREFACE_DONE && now != (n < whole.length ? PROXY_PREFACE_MORE : PROXY_PREFACE_DONE))
            abort();
        if (status == PROXY_PREFACE_MORE && now != PROXY_PREFACE_MORE)
            abort();
    }
    return 0;
}

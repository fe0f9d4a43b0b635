/* Addresses of the configuration: whatever is accepted must come back from its own text. */
#include "net/address.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text, enum address_use use)
{
    struct address first, second;
    struct address_socket literal;
    struct error err = ERROR_INIT;
    char out[ADDRESS_TEXT_MAX];
    char again[ADDRESS_TEXT_MAX];

    if (address_parse(text, use, &first, &err) != ERROR_NONE) {
        if (err.category != ERROR_CONFIG || err.text[0] == '\0')
            abort();
        return;
    }
    (void)address_is_loopback(&first);
    if (address_literal(&first, &literal))
        (void)address_socket_text(&literal, out, sizeof(out));
    address_text(&first, out, sizeof(out));
    if (strchr(out, '\\') != NULL)
        return; /* escaped for the log, which is not undone */
    if (address_parse(out, use, &second, &err) != ERROR_NONE)
        abort();
    if (strcmp(address_text(&second, again, sizeof(again)), out) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check(text, ADDRESS_LISTEN);
    check(text, ADDRESS_CONNECT);
    free(text);
    return 0;
}

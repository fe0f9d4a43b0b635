/* PKCS#11 URIs of the configuration: a refusal has a text, and no text ever shows a PIN. */
#include "pkcs11/uri.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_match(const struct uri *uri)
{
    CK_TOKEN_INFO token = {0};
    CK_SLOT_INFO slot = {0};
    CK_INFO library = {0};

    (void)uri_match_module(uri, &library);
    (void)uri_match_slot(uri, 1, &slot);
    (void)uri_match_token(uri, &token);
    (void)uri_attribute(uri, CKA_ID);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), out[256];
    struct error err = ERROR_INIT;
    struct uri *uri;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    (void)uri_redact(text, out, sizeof(out));
    if (uri_parse(text, false, &uri, &err) == ERROR_NONE) {
        if (uri_pin_value(uri) != NULL)
            abort();
        check_match(uri);
        uri_free(uri);
    } else if (err.category != ERROR_CONFIG || err.text[0] == '\0') {
        abort();
    }
    if (uri_parse(text, true, &uri, &err) == ERROR_NONE) {
        const char *shown = strstr(uri_text(uri), "pin-value=");

        if (uri_pin_value(uri) != NULL && (shown == NULL || strncmp(shown, "pin-value=REDACTED", 18) != 0))
            abort();
        uri_free(uri);
    }
    free(text);
    return 0;
}

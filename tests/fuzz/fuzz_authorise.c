/* Allow rules over arbitrary certificates, and distinguished names of the configuration. */
#include "base/distinguished_name.h"
#include "gateway/authorise.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct authorise *rules(void)
{
    static const char *const texts[AUTHORISE_KINDS][1] = {
        [AUTHORISE_CN] = {"alice"},
        [AUTHORISE_OU] = {"Treasury"},
        [AUTHORISE_ORGANIZATION_IDENTIFIER] = {"PSDES-BDE-3DFD21"},
        [AUTHORISE_DNS] = {"*.client.example"},
        [AUTHORISE_URI] = {"spiffe://example/ns/*/client"},
        [AUTHORISE_EMAIL] = {"alice@example.com"},
        [AUTHORISE_POLICY] = {"1.2.3"},
        [AUTHORISE_ISSUER] = {"CN=Issuing CA,O=Example"},
        [AUTHORISE_ISSUER_SPKI_SHA256] = {"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
        [AUTHORISE_SERIAL] = {"0102ff"},
        [AUTHORISE_SPKI_SHA256] = {"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
    };
    static struct authorise *made;
    struct allow_rule blocks[AUTHORISE_KINDS] = {0};

    if (made != NULL)
        return made;
    for (int kind = 0; kind < AUTHORISE_KINDS; kind++)
        blocks[kind].kinds[kind] = (struct allow_values){texts[kind], 1};
    if (authorise_new(blocks, AUTHORISE_KINDS, &made, NULL) != ERROR_NONE)
        abort();
    return made;
}

static void check_certificate(const uint8_t *data, size_t size)
{
    const unsigned char *at = data;
    X509 *leaf = d2i_X509(NULL, &at, (long)size);
    struct error err = ERROR_INIT;

    if (leaf != NULL) {
        const struct authorise_client client = {.leaf = leaf};
        result outcome = authorise_check(rules(), &client, NULL, &err);

        if (outcome != ERROR_NONE && err.text[0] == '\0')
            abort();
    }
    X509_free(leaf);
    ERR_clear_error();
}

static void check_name(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    X509_NAME *name = NULL;
    struct error err = ERROR_INIT;

    if (text == NULL)
        return;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (distinguished_name_parse(text, &name, &err) == ERROR_NONE) {
        if (X509_NAME_cmp(name, name) != 0)
            abort();
    } else if (err.category == ERROR_NONE || name != NULL) {
        abort();
    }
    X509_NAME_free(name);
    ERR_clear_error();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 0x30) /* a SEQUENCE */
        check_certificate(data, size);
    else
        check_name(data, size);
    return 0;
}

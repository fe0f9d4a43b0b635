/*
 * Messages to be signed. What passes for a client must be of a length and a start that only a TLS handshake has; what
 * passes for one purpose must never pass for the other.
 */
#include "pkcs11/keyholder/purpose.h"
#include "pkcs11/mechanism.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t leaf[] = {'l', 'e', 'a', 'f'};
static const uint16_t schemes[] = {SCHEME_ECDSA_SHA256};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct purpose_request request = {.purpose = KEYHOLDER_PURPOSE_CLIENT,
                                      .scheme = SCHEME_ECDSA_SHA256,
                                      .schemes = schemes,
                                      .n_schemes = 1,
                                      .leaf = leaf,
                                      .leaf_length = sizeof(leaf),
                                      .message = data,
                                      .length = size};
    result client, server, list;

    if (size == 0)
        return 0;
    client = purpose_check(&request, NULL);
    request.purpose = KEYHOLDER_PURPOSE_SERVER;
    server = purpose_check(&request, NULL);
    request.purpose = KEYHOLDER_PURPOSE_LIST;
    list = purpose_check(&request, NULL);
    if (list == ERROR_NONE || (client == ERROR_NONE && server == ERROR_NONE))
        abort();
    if (client == ERROR_NONE && data[0] != 0x20 && memmem(data, size, leaf, sizeof(leaf)) == NULL)
        abort();
    return 0;
}

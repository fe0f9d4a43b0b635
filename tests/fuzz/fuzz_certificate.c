/* Certificates as a peer or a file may hold them: decoding, path building and every check of chain_verify(). */
#include "tls/verify/chain.h"
#include "tls/verify/trust.h"

#include <stdint.h>
#include <stdlib.h>

/* Leaves tried per input; keeps one input cheap. */
#define LEAVES_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void verify(const struct trust *trust, STACK_OF(X509) * untrusted, X509 *leaf, int variant)
{
    const struct chain_request request = {.leaf = leaf,
                                          .untrusted = untrusted,
                                          .trust = trust,
                                          .time = 1800000000,
                                          .depth = CHAIN_DEPTH_DEFAULT,
                                          .purpose = (enum chain_purpose)(variant % 3),
                                          .revocation = CHAIN_REVOCATION_PREFER,
                                          .policy = variant == 0 ? CHAIN_POLICY_LEGACY : CHAIN_POLICY_2026,
                                          .hostname = variant == 1   ? "a.example"
                                                      : variant == 2 ? "192.0.2.1"
                                                                     : NULL};
    struct verdict verdict;
    char line[1024];

    chain_verify(&request, &verdict);
    if (verdict.accepted != (verdict.x509_error == X509_V_OK))
        abort();
    if (!verdict.accepted && (verdict.reason.check[0] == '\0' || verdict.reason.text[0] == '\0'))
        abort();
    (void)verdict_describe(&verdict, line, sizeof(line));
    verdict_free(&verdict);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trust *trust = NULL;
    STACK_OF(X509) * untrusted;
    struct error err = ERROR_INIT;
    int n;

    if (trust_load_memory("input", data, size, &trust, &err) != ERROR_NONE)
        return 0;
    untrusted = sk_X509_dup(trust_intermediates(trust));
    n = untrusted != NULL ? sk_X509_num(untrusted) : 0;
    for (int i = 0; i < n && i < LEAVES_MAX; i++)
        verify(trust, untrusted, sk_X509_value(untrusted, i), i);
    verify(trust, untrusted, sk_X509_value(trust_certificates(trust), 0), 0);
    verify(trust, untrusted, sk_X509_value(trust_certificates(trust), 0), 1);
    sk_X509_free(untrusted);
    trust_free(trust);
    return 0;
}

#include "tls/verify/adopt.h"

#include <openssl/crypto.h>
#include <openssl/err.h>

X509 *adopt_certificate(OSSL_LIB_CTX *libctx, const X509 *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);
    X509 *copy = length > 0 ? X509_new_ex(libctx, NULL) : NULL;
    const unsigned char *at = der;

    if (copy != NULL && d2i_X509(&copy, &at, length) == NULL)
        copy = NULL; /* it has been freed */
    OPENSSL_free(der);
    ERR_clear_error();
    return copy;
}

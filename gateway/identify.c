#include "gateway/identify.h"

#include "gateway/proxy_header.h"

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

/* The last common name, the most specific one, as UTF-8 (OPENSSL_free()); NULL without one. */
static unsigned char *common_name(X509 *certificate, size_t *ret_length)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    unsigned char *text = NULL;
    int last = -1, at, length;

    while ((at = X509_NAME_get_index_by_NID(subject, NID_commonName, last)) >= 0)
        last = at;
    if (last < 0)
        return NULL;
    length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)));
    if (length < 0)
        return NULL;
    *ret_length = (size_t)length;
    return text;
}

/* "RSA2048", "EC256", "ED25519": as haproxy writes PP2_SUBTYPE_SSL_KEY_ALG. */
static void key_name(X509 *certificate, char *out, size_t size)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    int type = key == NULL ? 0 : EVP_PKEY_get_base_id(key);

    out[0] = '\0';
    if (type == EVP_PKEY_RSA || type == EVP_PKEY_RSA_PSS)
        (void)snprintf(out, size, "RSA%d", EVP_PKEY_get_bits(key));
    else if (type == EVP_PKEY_EC)
        (void)snprintf(out, size, "EC%d", EVP_PKEY_get_bits(key));
    else if (type == EVP_PKEY_ED25519)
        (void)snprintf(out, size, "ED25519");
}

static const char *signature_name(X509 *certificate)
{
    int digest = NID_undef, key = NID_undef;

    if (!X509_get_signature_info(certificate, &digest, &key, NULL, NULL) || digest == NID_undef)
        return NULL;
    return OBJ_nid2sn(digest);
}

result identify_put(const struct identify *who, struct buffer *ret, struct error *err)
{
    const struct connection_info *info = who->info;
    struct proxy_header header = {.source = who->source,
                                  .destination = who->destination,
                                  .alpn = info->alpn,
                                  .authority = info->server_name,
                                  .version = info->version,
                                  .cipher = info->cipher};
    unsigned char *name = NULL, *der = NULL;
    char key[32] = "";
    int length = 0;
    result r;

    if (info->own != NULL) {
        key_name(info->own, key, sizeof(key));
        header.key_alg = key[0] == '\0' ? NULL : key;
        header.sig_alg = signature_name(info->own);
    }
    if (info->peer != NULL) {
        header.certificate = info->resumed ? PROXY_HEADER_CERTIFICATE_SESSION : PROXY_HEADER_CERTIFICATE_CONNECTION;
        header.verified = true; /* an unverified one does not come this far */
        name = common_name(info->peer, &header.cn_length);
        header.cn = (const char *)name;
        length = who->certificate ? i2d_X509(info->peer, &der) : 0;
        header.der = length > 0 ? der : NULL;
        header.der_length = length > 0 ? (size_t)length : 0;
    }
    r = proxy_header_put(&header, ret, NULL, err);
    OPENSSL_free(name);
    OPENSSL_free(der);
    return r;
}

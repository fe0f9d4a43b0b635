#include "gateway/http_identity.h"

#include "base/buffer.h"
#include "base/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct buffer *out, const char *text)
{
    buffer_put_bytes(out, text, strlen(text));
}

/* A byte sequence, RFC 8941 3.3.5. */
static bool put_certificate(struct buffer *out, X509 *certificate)
{
    unsigned char *der = NULL, *base64 = NULL;
    int length = i2d_X509(certificate, &der);
    int n = -1;

    if (length > 0)
        base64 = malloc((size_t)length / 3 * 4 + 8);
    if (base64 != NULL)
        n = EVP_EncodeBlock(base64, der, length);
    if (n > 0) {
        put(out, ":");
        buffer_put_bytes(out, base64, (size_t)n);
        put(out, ":");
    }
    free(base64);
    OPENSSL_free(der);
    return n > 0;
}

static bool put_chain(struct buffer *out, const STACK_OF(X509) * path)
{
    bool good = true;

    for (int i = 1; i < sk_X509_num(path) - 1 && good; i++) {
        put(out, i == 1 ? "Client-Cert-Chain: " : ", ");
        good = put_certificate(out, sk_X509_value(path, i));
    }
    if (sk_X509_num(path) > 2)
        put(out, "\r\n");
    return good;
}

/* Envoy's elements */

static bool put_hash(struct buffer *out, X509 *leaf)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    unsigned n = 0;

    if (X509_digest(leaf, EVP_sha256(), digest, &n) != 1)
        return false;
    put(out, "Hash=");
    put(out, text_hex(digest, n, 0, hex, sizeof(hex)));
    return true;
}

/* PEM, percent-encoded but for what RFC 3986 calls unreserved. */
static bool put_pem(struct buffer *out, X509 *leaf)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    long length = 0;

    if (bio != NULL && PEM_write_bio_X509(bio, leaf) == 1)
        length = BIO_get_mem_data(bio, &pem);
    put(out, ";Cert=\"");
    for (long i = 0; i < length; i++) {
        char escaped[4];

        if (strchr(" \n+/=", pem[i]) == NULL) {
            buffer_put_u8(out, (uint8_t)pem[i]);
            continue;
        }
        (void)snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned char)pem[i]);
        put(out, escaped);
    }
    put(out, "\"");
    BIO_free(bio);
    return length > 0;
}

/* RFC 4514 text of visible ASCII, in which no '"' occurs and a '\' is always followed by what it escapes. */
static bool put_subject(struct buffer *out, X509 *leaf)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long length = -1;

    if (bio != NULL && X509_NAME_print_ex(bio, X509_get_subject_name(leaf), 0, XN_FLAG_RFC2253) >= 0)
        length = BIO_get_mem_data(bio, &text);
    put(out, ";Subject=\"");
    for (long i = 0; i < length; i++) {
        bool escape = text[i] == '\\' && i + 1 < length && (text[i + 1] == '"' || text[i + 1] == '\\');
        char c = text[escape ? ++i : i];

        if (escape || c == '"' || c < ' ' || c > '~') {
            char pair[4];

            (void)snprintf(pair, sizeof(pair), "\\%02X", (unsigned char)c);
            put(out, pair);
        } else {
            buffer_put_u8(out, (uint8_t)c);
        }
    }
    put(out, "\"");
    BIO_free(bio);
    return length >= 0;
}

static bool consists_of(const ASN1_STRING *string, const char *characters)
{
    const unsigned char *at = ASN1_STRING_get0_data(string);
    int length = ASN1_STRING_length(string);

    for (int i = 0; i < length; i++) {
        if (at[i] == '\0' || strchr(characters, at[i]) == NULL)
            return false;
    }
    return length > 0;
}

static void put_name(struct buffer *out, const char *key, const ASN1_STRING *string)
{
    const char *value = (const char *)ASN1_STRING_get0_data(string);
    size_t length = (size_t)ASN1_STRING_length(string);
    bool quote =
        memchr(value, ',', length) != NULL || memchr(value, ';', length) != NULL || memchr(value, '=', length) != NULL;

    put(out, key);
    put(out, quote ? "\"" : "");
    buffer_put_bytes(out, value, length);
    put(out, quote ? "\"" : "");
}

#define ALPHANUMERIC "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static void put_names(struct buffer *out, X509 *leaf)
{
    static const struct {
        int type;
        const char *key, *characters;
    } kinds[] = {{GEN_URI, ";URI=", ALPHANUMERIC "-._~:/?#[]@!$&'()*+,;=%"}, {GEN_DNS, ";DNS=", ALPHANUMERIC "-._*"}};
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
            int type;
            const ASN1_STRING *string = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

            if (type == kinds[k].type && consists_of(string, kinds[k].characters))
                put_name(out, kinds[k].key, string);
        }
    }
    GENERAL_NAMES_free(names);
}

static bool put_xfcc(struct buffer *out, X509 *leaf)
{
    bool good;

    put(out, "X-Forwarded-Client-Cert: ");
    good = put_hash(out, leaf) && put_pem(out, leaf) && put_subject(out, leaf);
    put_names(out, leaf);
    put(out, "\r\n");
    return good;
}

static bool put_all(struct buffer *out, const STACK_OF(X509) * path, bool xfcc)
{
    X509 *leaf = sk_X509_num(path) > 0 ? sk_X509_value(path, 0) : NULL;

    if (leaf == NULL)
        return true;
    put(out, "Client-Cert: ");
    if (!put_certificate(out, leaf))
        return false;
    put(out, "\r\n");
    return put_chain(out, path) && (!xfcc || put_xfcc(out, leaf));
}

result http_identity_make(const STACK_OF(X509) * path, bool xfcc, char **ret, struct error *err)
{
    struct buffer out;
    result r = ERROR_NONE;

    buffer_init(&out, HTTP_IDENTITY_MAX + 1);
    if (!put_all(&out, path, xfcc))
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot write the client's certificate into a header");
    else if (!buffer_ok(&out) || out.length > HTTP_IDENTITY_MAX)
        r = error_set(err, ERROR_VERIFY, "the client's certificates are longer than a header may be (%d bytes)",
                      HTTP_IDENTITY_MAX);
    ERR_clear_error();
    buffer_put_u8(&out, '\0');
    if (r == ERROR_NONE) {
        *ret = buffer_ok(&out) ? strdup((const char *)out.data) : NULL;
        if (*ret == NULL)
            r = error_set(err, ERROR_INTERNAL, "out of memory");
    }
    buffer_free(&out);
    return r;
}

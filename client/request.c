#include "client/request.h"

#include "base/distinguished_name.h"
#include "base/text.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

#define DNS_NAME_MAX 253 /* RFC 1035 2.3.4 */
#define URI_MAX 2048

void request_wish_free(struct request_wish *wish)
{
    if (wish == NULL)
        return;
    X509_NAME_free(wish->subject);
    GENERAL_NAMES_free(wish->names);
    *wish = (struct request_wish){0};
}

/* Each value again, with the string type and the length limit that RFC 5280 appendix A gives its attribute. */
static X509_NAME *normalise(const X509_NAME *parsed)
{
    X509_NAME *name = X509_NAME_new();

    for (int i = 0; name != NULL && i < X509_NAME_entry_count(parsed); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(parsed, i);
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
        bool same_set = i > 0 && X509_NAME_ENTRY_set(entry) == X509_NAME_ENTRY_set(X509_NAME_get_entry(parsed, i - 1));

        if (X509_NAME_add_entry_by_OBJ(name, X509_NAME_ENTRY_get_object(entry), MBSTRING_UTF8,
                                       ASN1_STRING_get0_data(value), ASN1_STRING_length(value), -1,
                                       same_set ? -1 : 0) != 1) {
            X509_NAME_free(name);
            return NULL;
        }
    }
    return name;
}

static result make_subject(const struct request_source *source, X509_NAME **ret, struct error *err)
{
    X509_NAME *parsed = NULL;

    if (source->subject == NULL && source->old != NULL) {
        *ret = X509_NAME_dup(X509_get_subject_name(source->old));
        return *ret == NULL ? error_set(err, ERROR_INTERNAL, "out of memory") : ERROR_NONE;
    }
    if (source->subject == NULL)
        return error_set(err, ERROR_USAGE, "--subject DN is missing");
    if (distinguished_name_parse(source->subject, &parsed, err) != ERROR_NONE) {
        error_prefix(err, "--subject");
        return err->category = ERROR_USAGE;
    }
    *ret = normalise(parsed);
    X509_NAME_free(parsed);
    return *ret == NULL ? error_set_openssl(err, ERROR_USAGE, "--subject: a value is too long or of a wrong form")
                        : ERROR_NONE;
}

static bool is_dns_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *rest = strncmp(name, "*.", 2) == 0 ? name + 2 : name;

    return *rest != '\0' && strlen(name) <= DNS_NAME_MAX && strspn(rest, allowed) == strlen(rest) && *rest != '.' &&
           strstr(rest, "..") == NULL;
}

static bool is_uri(const char *uri)
{
    const char *colon = strchr(uri, ':');

    for (const char *at = uri; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return false;
    return colon != NULL && colon != uri && colon[1] != '\0' && strlen(uri) <= URI_MAX;
}

static result add_name(GENERAL_NAMES *names, int type, const char *value, struct error *err)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *string = ASN1_IA5STRING_new();

    if (name == NULL || string == NULL || ASN1_STRING_set(string, value, -1) != 1) {
        GENERAL_NAME_free(name);
        ASN1_IA5STRING_free(string);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    GENERAL_NAME_set0_value(name, type, string);
    if (sk_GENERAL_NAME_push(names, name) > 0)
        return ERROR_NONE;
    GENERAL_NAME_free(name);
    return error_set(err, ERROR_INTERNAL, "out of memory");
}

static result add_names(const struct request_source *source, GENERAL_NAMES *names, struct error *err)
{
    char shown[256];
    result r = ERROR_NONE;

    for (size_t i = 0; r == ERROR_NONE && i < source->dns->n; i++) {
        const char *name = source->dns->items[i];

        r = is_dns_name(name) ? add_name(names, GEN_DNS, name, err)
                              : error_set(err, ERROR_USAGE, "--dns: \"%s\" is no DNS name",
                                          text_escape(name, strlen(name), shown, sizeof(shown)));
    }
    for (size_t i = 0; r == ERROR_NONE && i < source->uris->n; i++) {
        const char *uri = source->uris->items[i];

        r = is_uri(uri) ? add_name(names, GEN_URI, uri, err)
                        : error_set(err, ERROR_USAGE, "--uri: \"%s\" is no URI",
                                    text_escape(uri, strlen(uri), shown, sizeof(shown)));
    }
    return r;
}

static result make_names(const struct request_source *source, GENERAL_NAMES **ret, struct error *err)
{
    GENERAL_NAMES *names;
    result r;

    if (source->dns->n + source->uris->n == 0) {
        *ret = source->old == NULL ? NULL : X509_get_ext_d2i(source->old, NID_subject_alt_name, NULL, NULL);
        ERR_clear_error();
        return ERROR_NONE;
    }
    names = sk_GENERAL_NAME_new_null();
    if (names == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = add_names(source, names, err);
    if (r == ERROR_NONE)
        *ret = names;
    else
        GENERAL_NAMES_free(names);
    return r;
}

result request_wish_make(const struct request_source *source, struct request_wish *ret, struct error *err)
{
    struct request_wish wish = {0};
    result r = make_subject(source, &wish.subject, err);

    if (r == ERROR_NONE)
        r = make_names(source, &wish.names, err);
    if (r == ERROR_NONE)
        *ret = wish;
    else
        request_wish_free(&wish);
    return r;
}

static bool add_extension(STACK_OF(X509_EXTENSION) * *list, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool added = extension != NULL && X509v3_add_ext(list, extension, -1) != NULL;

    X509_EXTENSION_free(extension);
    return added;
}

STACK_OF(X509_EXTENSION) * request_extensions(const struct request_wish *wish, struct error *err)
{
    STACK_OF(X509_EXTENSION) *list = NULL;
    bool ok = add_extension(&list, NID_key_usage, "critical,digitalSignature") &&
              add_extension(&list, NID_ext_key_usage, "clientAuth");

    /* A certificate without a subject is identified by its names, which are critical then (RFC 5280 4.2.1.6). */
    if (ok && wish->names != NULL)
        ok = X509V3_add1_i2d(&list, NID_subject_alt_name, wish->names, X509_NAME_entry_count(wish->subject) == 0,
                             X509V3_ADD_DEFAULT) == 1;
    if (ok)
        return list;
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    (void)error_set_openssl(err, ERROR_INTERNAL, "cannot make the extensions of a request");
    return NULL;
}

static result fill(X509_REQ *request, const struct request_wish *wish, EVP_PKEY *public_key, struct error *err)
{
    STACK_OF(X509_EXTENSION) *extensions = request_extensions(wish, err);
    result r = ERROR_NONE;

    if (extensions == NULL)
        return ERROR_INTERNAL;
    if (X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_subject_name(request, wish->subject) != 1 || X509_REQ_set_pubkey(request, public_key) != 1 ||
        X509_REQ_add_extensions(request, extensions) != 1)
        r = error_set_openssl(err, ERROR_INTERNAL, "cannot make a certificate request");
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return r;
}

static result sign(X509_REQ *request, const struct request_signer *signer, struct error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *parameters = NULL; /* belongs to the context */
    result r = ERROR_NONE;

    if (context == NULL ||
        EVP_DigestSignInit_ex(context, &parameters, signer->hash, signer->libctx, NULL, signer->key, NULL) != 1 ||
        (signer->pss && (EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) != 1 ||
                         EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, RSA_PSS_SALTLEN_DIGEST) != 1)) ||
        X509_REQ_sign_ctx(request, context) <= 0)
        r = error_set_openssl(err, ERROR_TOKEN, "the certificate request could not be signed");
    EVP_MD_CTX_free(context);
    return r;
}

result request_make(const struct request_wish *wish, const struct request_signer *signer, X509_REQ **ret,
                    struct error *err)
{
    X509_REQ *request = X509_REQ_new_ex(signer->libctx, NULL);
    result r = request == NULL ? error_set(err, ERROR_INTERNAL, "out of memory")
                               : fill(request, wish, signer->public_key, err);

    if (r == ERROR_NONE)
        r = sign(request, signer, err);
    if (r == ERROR_NONE && X509_REQ_verify_ex(request, signer->public_key, signer->libctx, NULL) != 1)
        r = error_set_openssl(err, ERROR_TOKEN, "the token's signature of the certificate request is wrong");
    if (r == ERROR_NONE)
        *ret = request;
    else
        X509_REQ_free(request);
    return r;
}

char *request_text(const X509_REQ *request)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL, *text = NULL;
    long length;

    if (bio != NULL && PEM_write_bio_X509_REQ(bio, request) == 1 && BIO_write(bio, "", 1) == 1) {
        length = BIO_get_mem_data(bio, &data);
        text = length > 0 ? strdup(data) : NULL;
    }
    BIO_free(bio);
    return text;
}

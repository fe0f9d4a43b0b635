#include "pkcs11/token_find.h"

#include "pkcs11/certificate.h"
#include "pkcs11/key_certificate.h"
#include "pkcs11/listing.h"
#include "pkcs11/login.h"
#include "pkcs11/object.h"
#include "pkcs11/probe.h"
#include "pkcs11/public_key.h"
#include "pkcs11/rv.h"
#include "pkcs11/token_internal.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_SPACES 64 /* RFC 8446 4.4.3 */
static const char client_context[] = "TLS 1.3, client CertificateVerify";

/* One search on the way. */
struct search {
    struct token *token;
    const struct uri *uri;
    const char *certificate_file;
    struct token_slot slot;
    struct session session;
    CK_OBJECT_HANDLE object;      /* the private key */
    CK_OBJECT_HANDLE certificate; /* when the URI names one; else 0 */
    struct token_key *key;
    bool unproven; /* the token shows nothing to compare the certificate with */
};

/* Objects of `class` that fit label and id of the URI. */
static result find_named(struct search *search, CK_OBJECT_CLASS class, struct object_list *found, struct error *err)
{
    const CK_ATTRIBUTE *label = uri_attribute(search->uri, CKA_LABEL), *id = uri_attribute(search->uri, CKA_ID);
    CK_ATTRIBUTE pattern[3] = {{CKA_CLASS, &class, sizeof(class)}};
    CK_ULONG n = 1;

    if (label != NULL)
        pattern[n++] = *label;
    if (id != NULL)
        pattern[n++] = *id;
    return object_find(&search->session, pattern, n, found, err);
}

static void list_objects(struct search *search, const struct object_list *found, struct listing *listing)
{
    for (size_t i = 0; i < found->n; i++) {
        char *uri = NULL;

        (void)!object_uri(&search->session, &search->slot.info, found->handles[i], &uri, NULL);
        listing_add(listing, uri);
        free(uri);
    }
}

static result ambiguous(struct search *search, const struct object_list *found, struct error *err)
{
    struct listing listing = {0};

    list_objects(search, found, &listing);
    return error_set(err, ERROR_TOKEN, "more than one object fits %.200s: %s", uri_text(search->uri),
                     listing_text(&listing));
}

/* Nothing fits: say what there is, and whether a login might show more. */
static result missing(struct search *search, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE pattern = {CKA_CLASS, &class, sizeof(class)};
    struct object_list found;
    struct listing listing = {0};
    result r = object_find(&search->session, &pattern, 1, &found, err);

    if (r != ERROR_NONE)
        return r;
    list_objects(search, &found, &listing);
    if (search->token->pin == NULL && (search->slot.info.flags & CKF_LOGIN_REQUIRED) != 0)
        return error_set(err, ERROR_PIN,
                         "no private key that is visible without login fits %.200s, and no PIN source is set; visible "
                         "private keys: %s",
                         uri_text(search->uri), listing_text(&listing));
    return error_set(err, ERROR_TOKEN, "no private key fits %.200s; private keys on the token: %s",
                     uri_text(search->uri), listing_text(&listing));
}

/* The URI names a certificate or public key: its CKA_ID leads to the private key. */
static result follow_id(struct search *search, CK_OBJECT_HANDLE other, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    struct object_value id;
    struct object_list found = {.n = 0};
    result r = object_read(&search->session, other, CKA_ID, &id, err);
    CK_ATTRIBUTE pattern[] = {{CKA_CLASS, &class, sizeof(class)}, {CKA_ID, id.data, id.length}};

    if (r != ERROR_NONE)
        return r;
    if (id.data != NULL)
        r = object_find(&search->session, pattern, 2, &found, err);
    object_value_free(&id);
    if (r != ERROR_NONE)
        return r;
    if (found.n == 0)
        return missing(search, err);
    if (found.n > 1)
        return ambiguous(search, &found, err);
    search->object = found.handles[0];
    return ERROR_NONE;
}

static result find_through(struct search *search, CK_OBJECT_CLASS class, struct error *err)
{
    struct object_list found;
    result r = find_named(search, class, &found, err);

    if (r != ERROR_NONE)
        return r;
    if (found.n == 0)
        return missing(search, err);
    if (found.n > 1)
        return ambiguous(search, &found, err);
    if (class == CKO_CERTIFICATE)
        search->certificate = found.handles[0];
    return follow_id(search, found.handles[0], err);
}

static result find_object(struct search *search, struct error *err)
{
    const CK_ATTRIBUTE *class = uri_attribute(search->uri, CKA_CLASS);
    CK_OBJECT_CLASS wanted = CKO_PRIVATE_KEY;
    struct object_list found;
    result r;

    if (class != NULL && class->ulValueLen == sizeof(wanted))
        memcpy(&wanted, class->pValue, sizeof(wanted));
    if (wanted == CKO_CERTIFICATE || wanted == CKO_PUBLIC_KEY)
        return find_through(search, wanted, err);
    if (wanted != CKO_PRIVATE_KEY)
        return error_set(err, ERROR_CONFIG, "%.400s: the type of a key's URI is private, public or cert",
                         uri_text(search->uri));
    r = find_named(search, CKO_PRIVATE_KEY, &found, err);
    if (r != ERROR_NONE)
        return r;
    if (found.n > 1)
        return ambiguous(search, &found, err);
    if (found.n == 1) {
        search->object = found.handles[0];
        return ERROR_NONE;
    }
    /* Often only the certificate carries the label. */
    return class == NULL && uri_attribute(search->uri, CKA_LABEL) != NULL ? find_through(search, CKO_CERTIFICATE, err)
                                                                          : missing(search, err);
}

result token_find_public(const struct session *session, CK_OBJECT_HANDLE object, EVP_PKEY **ret, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    struct object_list found = {.n = 0};
    struct object_value id = {0};
    EVP_PKEY *key = NULL;
    result r = public_key_read(session, object, &key, err);

    if (r == ERROR_NONE && key == NULL)
        r = object_read(session, object, CKA_ID, &id, err);
    if (r == ERROR_NONE && id.data != NULL) {
        CK_ATTRIBUTE pattern[] = {{CKA_CLASS, &class, sizeof(class)}, {CKA_ID, id.data, id.length}};

        r = object_find(session, pattern, 2, &found, err);
    }
    for (size_t i = 0; r == ERROR_NONE && key == NULL && i < found.n; i++)
        r = public_key_read(session, found.handles[i], &key, err);
    object_value_free(&id);
    if (r == ERROR_NONE)
        *ret = key;
    return r;
}

/* What finds the same object again after the token was away. */
static result remember(struct search *search, struct error *err)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_LABEL, CKA_ID};
    struct token_key *key = search->key;
    CK_OBJECT_CLASS *copy = malloc(sizeof(*copy));
    struct object_value value;

    if (copy == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    *copy = CKO_PRIVATE_KEY;
    key->pattern[key->n_pattern++] = (CK_ATTRIBUTE){CKA_CLASS, copy, sizeof(*copy)};
    for (size_t i = 0; i < 2; i++) {
        result r = object_read(&search->session, search->object, types[i], &value, err);

        if (r != ERROR_NONE)
            return r;
        if (value.data != NULL)
            key->pattern[key->n_pattern++] = (CK_ATTRIBUTE){types[i], value.data, value.length};
    }
    return object_uri(&search->session, &search->slot.info, search->object, &key->uri, err);
}

/* What the token does not say counts as the worse case: a key that left a file is worth nothing more for its token. */
static result check_hardware(const struct token_key *key, struct error *err)
{
    const char *why = NULL;

    if (key->extractable)
        why = "it can be extracted from the token (CKA_EXTRACTABLE is not false)";
    else if (!key->local)
        why = "it was not made on the token but imported (CKA_LOCAL is not true)";
    else if (!key->never_extractable)
        why = "it could be extracted once (CKA_NEVER_EXTRACTABLE is not true)";
    if (why == NULL)
        return ERROR_NONE;
    return error_set(err, ERROR_TOKEN, "key %.700s: require-hardware refuses it: %s", key->uri, why);
}

static result read_flags(struct search *search, struct error *err)
{
    struct token_key *key = search->key;

    key->sensitive = object_read_bool(&search->session, search->object, CKA_SENSITIVE, false);
    key->extractable = object_read_bool(&search->session, search->object, CKA_EXTRACTABLE, true);
    key->never_extractable = object_read_bool(&search->session, search->object, CKA_NEVER_EXTRACTABLE, false);
    key->local = object_read_bool(&search->session, search->object, CKA_LOCAL, false);
    key->always_authenticate = object_read_bool(&search->session, search->object, CKA_ALWAYS_AUTHENTICATE, false);
    if (!object_read_bool(&search->session, search->object, CKA_SIGN, true))
        return error_set(err, ERROR_TOKEN, "key %.700s: the token does not allow it to sign (CKA_SIGN is false)",
                         key->uri);
    return search->token->require_hardware ? check_hardware(key, err) : ERROR_NONE;
}

/* The certificate, and through it the public key and its kind. */
static result find_certificate(struct search *search, struct error *err)
{
    struct token_key *key = search->key;
    struct key_certificate_query query = {.session = &search->session,
                                          .key_uri = key->uri,
                                          .file = search->certificate_file,
                                          .named = search->certificate};
    struct public_key_kind kind;
    EVP_PKEY *shown = NULL;
    result r = token_find_public(&search->session, search->object, &shown, err);

    if (r != ERROR_NONE)
        return r;
    for (CK_ULONG i = 0; i < key->n_pattern; i++)
        if (key->pattern[i].type == CKA_ID)
            query.id = &key->pattern[i];
    query.public_key = shown;
    search->unproven = shown == NULL;
    r = key_certificate_find(&query, key->chain, &key->n_chain, err);
    EVP_PKEY_free(shown);
    if (r != ERROR_NONE)
        return r;
    key->public_key = X509_get_pubkey(key->chain[0]);
    if (key->public_key == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "key %.700s: its certificate has no usable public key", key->uri);
    r = public_key_kind(key->public_key, &kind, err);
    if (r != ERROR_NONE) {
        error_prefix(err, "key %.400s", key->uri);
        return r;
    }
    key->type = kind.type;
    key->bits = kind.bits;
    return ERROR_NONE;
}

/* In a session, logged in if there is a PIN source. */
static result search_session(struct search *search, struct error *err)
{
    struct token_key *key = search->key;
    result r = find_object(search, err);

    if (r == ERROR_NONE)
        r = remember(search, err);
    if (r == ERROR_NONE)
        r = read_flags(search, err);
    if (r == ERROR_NONE)
        r = find_certificate(search, err);
    if (r == ERROR_NONE)
        r = probe_key(key, &search->session, search->slot.id, search->object, err);
    key->handle = search->object;
    key->generation = search->session.generation;
    return r;
}

/*
 * An EC key may show no public half: then a signature tells whether the certificate is its own. What is signed looks
 * like a TLS 1.3 CertificateVerify over a random hash, so that it can serve nobody for anything else.
 */
static result prove(struct token_key *key, struct error *err)
{
    uint8_t message[CONTEXT_SPACES + sizeof(client_context) + 32];
    char subject[256];
    struct token_signature signature;
    result r;

    if (key->always_authenticate) /* not worth a PIN entry; each signature is checked anyway */
        return ERROR_NONE;
    memset(message, ' ', CONTEXT_SPACES);
    memcpy(message + CONTEXT_SPACES, client_context, sizeof(client_context)); /* with its NUL, the separator */
    if (RAND_bytes(message + CONTEXT_SPACES + sizeof(client_context), 32) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "no randomness");
    r = token_key_sign(key, key->schemes[0], message, sizeof(message), &signature, err);
    if (r == ERROR_TOKEN && err->code == CKR_SIGNATURE_INVALID)
        return error_set(err, ERROR_CONFIG,
                         "the certificate \"%s\" does not belong to the key %.600s: a test signature does not verify "
                         "with it",
                         certificate_subject(key->chain[0], subject, sizeof(subject)), key->uri);
    return r;
}

static struct token_key *new_key(struct token *token)
{
    struct token_key *key = calloc(1, sizeof(*key));

    if (key == NULL || pthread_mutex_init(&key->mutex, NULL) != 0) {
        free(key);
        return NULL;
    }
    key->token = token;
    return key;
}

static result find_once(struct search *search, struct error *err)
{
    result r;

    search->object = search->certificate = 0;
    search->key = new_key(search->token);
    if (search->key == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    r = token_acquire(search->token, &search->session, err);
    if (r != ERROR_NONE)
        goto err0;
    if (!token_slot(search->token, &search->slot) || !uri_match_token(search->uri, &search->slot.info))
        r = error_set(err, ERROR_CONFIG, "%.400s: names another token than the one that is open",
                      uri_text(search->uri));
    if (r == ERROR_NONE)
        r = search_session(search, err);
    token_release(search->token, &search->session, r, err);
    if (r == ERROR_NONE && search->unproven)
        r = prove(search->key, err);
    if (r == ERROR_NONE)
        return ERROR_NONE;
err0:
    token_key_free(search->key);
    search->key = NULL;
    return r;
}

result token_find_key(struct token *token, const char *uri, const char *certificate_file, struct token_key **ret_key,
                      struct error *err)
{
    struct search search = {.token = token, .certificate_file = certificate_file};
    struct error local = ERROR_INIT;
    struct uri *parsed;
    result r = uri_parse(uri, false, &parsed, err);

    if (r != ERROR_NONE)
        return r;
    search.uri = parsed;
    r = find_once(&search, &local);
    if (r == ERROR_TOKEN && rv_is_loss(local.code))
        r = find_once(&search, &local);
    uri_free(parsed);
    if (r == ERROR_NONE)
        *ret_key = search.key;
    else if (err != NULL)
        *err = local;
    return r;
}

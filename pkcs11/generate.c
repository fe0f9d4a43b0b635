#include "pkcs11/generate.h"

#include "base/text.h"
#include "pkcs11/object.h"
#include "pkcs11/probe.h"
#include "pkcs11/provision.h"
#include "pkcs11/public_key.h"
#include "pkcs11/rv.h"
#include "pkcs11/token_internal.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID_BYTES 20 /* as long as a subject key identifier */
#define SUCCESSOR_MAX 9999

static const struct algorithm {
    const char *name, *shown;
    enum key_type type;
    CK_ULONG bits;
    CK_KEY_TYPE key_type;
    CK_MECHANISM_TYPE mechanism;
    uint8_t params_length, params[10]; /* CKA_EC_PARAMS: the curve's OID */
} algorithms[] = {
    {"rsa2048", "RSA 2048", KEY_TYPE_RSA, 2048, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 0, {0}},
    {"rsa3072", "RSA 3072", KEY_TYPE_RSA, 3072, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 0, {0}},
    {"rsa4096", "RSA 4096", KEY_TYPE_RSA, 4096, CKK_RSA, CKM_RSA_PKCS_KEY_PAIR_GEN, 0, {0}},
    {"p256",
     "P-256",
     KEY_TYPE_EC,
     256,
     CKK_EC,
     CKM_EC_KEY_PAIR_GEN,
     10,
     {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
    {"p384", "P-384", KEY_TYPE_EC, 384, CKK_EC, CKM_EC_KEY_PAIR_GEN, 7, {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},
    {"p521", "P-521", KEY_TYPE_EC, 521, CKK_EC, CKM_EC_KEY_PAIR_GEN, 7, {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}},
    {"ed25519",
     "Ed25519",
     KEY_TYPE_ED25519,
     256,
     CKK_EC_EDWARDS,
     CKM_EC_EDWARDS_KEY_PAIR_GEN,
     5,
     {0x06, 0x03, 0x2b, 0x65, 0x70}},
};

#define ATTRIBUTES_MAX 16

/* One generation on the way. */
struct generation {
    struct token *token;
    const struct algorithm *algorithm;
    struct session session;
    struct token_slot slot;
    char label[GENERATE_LABEL_MAX + 8];
    uint8_t id[GENERATE_ID_MAX];
    size_t id_length;
    CK_OBJECT_HANDLE public_object, private_object;
    bool made;
    struct token_key *key;
};

static const struct algorithm *find_algorithm(const char *name)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        if (strcmp(algorithms[i].name, name) == 0)
            return &algorithms[i];
    return NULL;
}

/* Is there an object with this attribute? *ret is its URI then (malloc'ed), else NULL. */
static result find_taken(struct generation *generation, CK_ATTRIBUTE attribute, char **ret, struct error *err)
{
    struct object_list found;
    result r = object_find(&generation->session, &attribute, 1, &found, err);

    *ret = NULL;
    if (r == ERROR_NONE && found.n > 0)
        r = object_uri(&generation->session, &generation->slot.info, found.handles[0], ret, err);
    return r;
}

static result find_label(struct generation *generation, char **ret, struct error *err)
{
    CK_ATTRIBUTE label = {CKA_LABEL, generation->label, strlen(generation->label)};

    return find_taken(generation, label, ret, err);
}

/* "client" is followed by "client-2", "client-2" by "client-3". */
static result choose_successor(struct generation *generation, const char *label, struct error *err)
{
    const char *dash = strrchr(label, '-');
    size_t stem = strlen(label);
    uint64_t number = 1;

    if (dash != NULL && dash != label && text_parse_number(dash + 1, 2, SUCCESSOR_MAX, &number))
        stem = (size_t)(dash - label);
    while (number++ < SUCCESSOR_MAX) {
        char *taken = NULL;
        result r;

        (void)snprintf(generation->label, sizeof(generation->label), "%.*s-%llu", (int)stem, label,
                       (unsigned long long)number);
        r = find_label(generation, &taken, err);
        if (r != ERROR_NONE || taken == NULL)
            return r;
        free(taken);
    }
    return error_set(err, ERROR_CONFIG, "no label after \"%s\" is free: give one with --label", label);
}

static result choose_label(struct generation *generation, const struct generate_request *request, struct error *err)
{
    char *taken = NULL;
    char shown[4 * GENERATE_LABEL_MAX];
    result r;

    if (request->label[0] == '\0' || strlen(request->label) > GENERATE_LABEL_MAX)
        return error_set(err, ERROR_CONFIG, "the label must have 1 to %d bytes", GENERATE_LABEL_MAX);
    if (request->successor)
        return choose_successor(generation, request->label, err);
    (void)snprintf(generation->label, sizeof(generation->label), "%s", request->label);
    r = find_label(generation, &taken, err);
    if (r == ERROR_NONE && taken != NULL)
        r = error_set(err, ERROR_CONFIG, "the label \"%s\" is taken on the token by %.500s: choose another --label",
                      text_escape(request->label, strlen(request->label), shown, sizeof(shown)), taken);
    free(taken);
    return r;
}

static result choose_id(struct generation *generation, const struct generate_request *request, struct error *err)
{
    CK_ATTRIBUTE attribute = {CKA_ID, generation->id, 0};
    char *taken = NULL;
    result r;

    if (request->id != NULL && (request->id_length == 0 || request->id_length > GENERATE_ID_MAX))
        return error_set(err, ERROR_CONFIG, "the id must have 1 to %d bytes", GENERATE_ID_MAX);
    generation->id_length = request->id == NULL ? ID_BYTES : request->id_length;
    if (request->id != NULL)
        memcpy(generation->id, request->id, request->id_length);
    else if (RAND_bytes(generation->id, ID_BYTES) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "no randomness for an id");
    attribute.ulValueLen = generation->id_length;
    r = find_taken(generation, attribute, &taken, err);
    if (r == ERROR_NONE && taken != NULL)
        r = error_set(err, ERROR_CONFIG, "the id is taken on the token by %.700s: choose another --id", taken);
    free(taken);
    return r;
}

static result check_mechanism(const struct generation *generation, struct error *err)
{
    const struct algorithm *algorithm = generation->algorithm;
    struct module *module = generation->session.module;
    CK_MECHANISM_INFO info = {0};
    CK_RV rv = MODULE_CALL(module, C_GetMechanismInfo, generation->slot.id, algorithm->mechanism, &info);

    if (rv != CKR_OK && rv_is_loss(rv))
        return rv_error(err, ERROR_TOKEN, rv, "C_GetMechanismInfo");
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "the token cannot make %s keys", algorithm->shown);
    if (algorithm->type == KEY_TYPE_RSA && info.ulMaxKeySize != 0 &&
        (algorithm->bits < info.ulMinKeySize || algorithm->bits > info.ulMaxKeySize))
        return error_set(err, ERROR_TOKEN, "the token makes RSA keys of %lu to %lu bits only", info.ulMinKeySize,
                         info.ulMaxKeySize);
    return ERROR_NONE;
}

struct template
{
    CK_ATTRIBUTE items[ATTRIBUTES_MAX];
    CK_ULONG n;
};

static void put(struct template *template, CK_ATTRIBUTE_TYPE type, void *value, CK_ULONG length)
{
    template->items[template->n++] = (CK_ATTRIBUTE){type, value, length};
}

/* `narrow`: also say what the key must not do; some tokens know these attributes only for other kinds of keys. */
static CK_RV call(struct generation *generation, bool narrow)
{
    const struct algorithm *algorithm = generation->algorithm;
    CK_MECHANISM mechanism = {algorithm->mechanism, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_KEY_TYPE key_type = algorithm->key_type;
    CK_ULONG bits = algorithm->bits;
    uint8_t exponent[] = {0x01, 0x00, 0x01};
    struct template public = {.n = 0}, private = {.n = 0};
    struct template *const both[] = {&public, &private};

    for (size_t i = 0; i < 2; i++) {
        put(both[i], CKA_TOKEN, &yes, sizeof(yes));
        put(both[i], CKA_KEY_TYPE, &key_type, sizeof(key_type));
        put(both[i], CKA_LABEL, generation->label, strlen(generation->label));
        put(both[i], CKA_ID, generation->id, generation->id_length);
    }
    put(&public, CKA_PRIVATE, &no, sizeof(no));
    put(&public, CKA_VERIFY, &yes, sizeof(yes));
    if (algorithm->type == KEY_TYPE_RSA) {
        put(&public, CKA_MODULUS_BITS, &bits, sizeof(bits));
        put(&public, CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent));
    } else {
        put(&public, CKA_EC_PARAMS, (void *)(uintptr_t)algorithm->params, algorithm->params_length);
    }
    put(&private, CKA_PRIVATE, &yes, sizeof(yes));
    put(&private, CKA_SENSITIVE, &yes, sizeof(yes));
    put(&private, CKA_EXTRACTABLE, &no, sizeof(no));
    put(&private, CKA_SIGN, &yes, sizeof(yes));
    if (narrow && algorithm->type == KEY_TYPE_RSA) {
        put(&private, CKA_DECRYPT, &no, sizeof(no));
        put(&private, CKA_UNWRAP, &no, sizeof(no));
        put(&private, CKA_SIGN_RECOVER, &no, sizeof(no));
    } else if (narrow) {
        put(&private, CKA_DERIVE, &no, sizeof(no));
    }
    return MODULE_CALL(generation->session.module, C_GenerateKeyPair, generation->session.handle, &mechanism,
                       public.items, public.n, private.items, private.n, &generation->public_object,
                       &generation->private_object);
}

static result generate(struct generation *generation, struct error *err)
{
    CK_RV rv = call(generation, true);

    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT || rv == CKR_ATTRIBUTE_VALUE_INVALID)
        rv = call(generation, false);
    generation->made = rv == CKR_OK;
    if (rv == CKR_OK)
        return ERROR_NONE;
    return rv_error(err, ERROR_TOKEN, rv, "the token did not make a %s key pair: C_GenerateKeyPair",
                    generation->algorithm->shown);
}

/* Did the token do as it was told? A key that can leave it is not what was asked for. */
static result read_flags(struct generation *generation, struct error *err)
{
    const struct session *session = &generation->session;
    CK_OBJECT_HANDLE object = generation->private_object;
    struct token_key *key = generation->key;

    key->sensitive = object_read_bool(session, object, CKA_SENSITIVE, false);
    key->extractable = object_read_bool(session, object, CKA_EXTRACTABLE, true);
    key->always_authenticate = object_read_bool(session, object, CKA_ALWAYS_AUTHENTICATE, false);
    if (!key->sensitive || key->extractable)
        return error_set(err, ERROR_TOKEN, "the token made a key that can leave it (sensitive %s, extractable %s)",
                         key->sensitive ? "yes" : "no", key->extractable ? "yes" : "no");
    return ERROR_NONE;
}

static result read_public(struct generation *generation, struct error *err)
{
    struct token_key *key = generation->key;
    struct public_key_kind kind;
    result r = public_key_read(&generation->session, generation->public_object, &key->public_key, err);

    if (r == ERROR_NONE && key->public_key == NULL)
        r = error_set(err, ERROR_TOKEN, "the token does not show the public half of the key it made");
    if (r == ERROR_NONE)
        r = public_key_kind(key->public_key, &kind, err);
    if (r != ERROR_NONE)
        return r;
    if (kind.type != generation->algorithm->type || kind.bits != generation->algorithm->bits)
        return error_set(err, ERROR_TOKEN, "the token made another kind of key than it was asked for");
    key->type = kind.type;
    key->bits = kind.bits;
    return ERROR_NONE;
}

/* What finds the key again: class, label and id, as those of a struct token_key. */
static result remember(struct generation *generation, struct error *err)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    const CK_ATTRIBUTE values[] = {{CKA_CLASS, &class, sizeof(class)},
                                   {CKA_LABEL, generation->label, strlen(generation->label)},
                                   {CKA_ID, generation->id, generation->id_length}};
    struct token_key *key = generation->key;

    for (size_t i = 0; i < 3; i++) {
        void *copy = malloc(values[i].ulValueLen);

        if (copy == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        memcpy(copy, values[i].pValue, values[i].ulValueLen);
        key->pattern[key->n_pattern++] = (CK_ATTRIBUTE){values[i].type, copy, values[i].ulValueLen};
    }
    key->handle = generation->private_object;
    key->generation = generation->session.generation;
    return object_uri(&generation->session, &generation->slot.info, generation->private_object, &key->uri, err);
}

static result describe(struct generation *generation, struct error *err)
{
    struct token_key *key = calloc(1, sizeof(*key));
    result r;

    if (key == NULL || pthread_mutex_init(&key->mutex, NULL) != 0) {
        free(key);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    key->token = generation->token;
    generation->key = key;
    r = remember(generation, err);
    if (r == ERROR_NONE)
        r = read_flags(generation, err);
    if (r == ERROR_NONE)
        r = read_public(generation, err);
    if (r == ERROR_NONE)
        r = probe_key(key, &generation->session, generation->slot.id, generation->private_object, err);
    return r;
}

static CK_RV destroy(const struct session *session, CK_OBJECT_HANDLE object)
{
    return MODULE_CALL(session->module, C_DestroyObject, session->handle, object);
}

static void undo(struct generation *generation, struct error *err)
{
    CK_RV private = destroy(&generation->session, generation->private_object);
    CK_RV public = destroy(&generation->session, generation->public_object);

    error_prefix(err, private == CKR_OK && public == CKR_OK
                          ? "the new key pair was removed again"
                          : "the new key pair could not be removed again (see tokentls list)");
}

static result run(struct generation *generation, const struct generate_request *request, struct error *err)
{
    result r = ERROR_NONE;

    if (!token_slot(generation->token, &generation->slot))
        r = error_set(err, ERROR_TOKEN, "the token is absent");
    if (r == ERROR_NONE)
        r = check_mechanism(generation, err);
    if (r == ERROR_NONE)
        r = choose_label(generation, request, err);
    if (r == ERROR_NONE)
        r = choose_id(generation, request, err);
    if (r == ERROR_NONE)
        r = generate(generation, err);
    if (r == ERROR_NONE)
        r = describe(generation, err);
    if (r != ERROR_NONE && generation->made)
        undo(generation, err);
    return r;
}

result generate_key_pair(struct token *token, const struct generate_request *request, struct token_key **ret,
                         struct error *err)
{
    struct generation generation = {.token = token, .algorithm = find_algorithm(request->algorithm)};
    struct error local = ERROR_INIT;
    result r;

    if (generation.algorithm == NULL)
        return error_set(err, ERROR_CONFIG, "the algorithm is none of " GENERATE_ALGORITHMS);
    r = provision_begin(token, &generation.session, &local);
    if (r == ERROR_NONE) {
        r = run(&generation, request, &local);
        token_release(token, &generation.session, r, &local);
    }
    if (r == ERROR_NONE) {
        *ret = generation.key;
        return ERROR_NONE;
    }
    token_key_free(generation.key);
    if (err != NULL)
        *err = local;
    return r;
}

EVP_PKEY *generate_public(const struct token_key *key)
{
    return key->public_key;
}

static result discard_class(const struct session *session, const struct token_key *key, CK_OBJECT_CLASS class,
                            struct error *err)
{
    CK_ATTRIBUTE pattern[3];
    struct object_list found;
    CK_RV rv = CKR_OK;
    result r;

    memcpy(pattern, key->pattern, sizeof(pattern));
    pattern[0] = (CK_ATTRIBUTE){CKA_CLASS, &class, sizeof(class)};
    r = object_find(session, pattern, key->n_pattern, &found, err);
    for (size_t i = 0; r == ERROR_NONE && rv == CKR_OK && i < found.n; i++)
        rv = destroy(session, found.handles[i]);
    return r != ERROR_NONE || rv == CKR_OK ? r : rv_error(err, ERROR_TOKEN, rv, "C_DestroyObject");
}

result generate_discard(struct token *token, const struct token_key *key, struct error *err)
{
    struct error local = ERROR_INIT;
    struct session session;
    result r = provision_begin(token, &session, &local);

    if (r == ERROR_NONE) {
        r = discard_class(&session, key, CKO_PRIVATE_KEY, &local);
        if (r == ERROR_NONE)
            r = discard_class(&session, key, CKO_PUBLIC_KEY, &local);
        token_release(token, &session, r, &local);
    }
    if (r != ERROR_NONE && err != NULL)
        *err = local;
    return r;
}

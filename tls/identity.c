#include "tls/identity.h"

#include "pkcs11/certificate.h"
#include "tls/key.h"
#include "tls/libctx.h"
#include "tls/place.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct identity {
    struct libctx *libctx;
    char *name;
    size_t expected; /* tokens that the configuration names */
    bool close_on_removal;
    struct place places[IDENTITY_PLACES_MAX];
    size_t n_places; /* that have reported */

    /* What the places together make. */
    struct place *chosen; /* whose certificate is used; NULL: none is known */
    struct key_link *link;
    EVP_PKEY *key;
    enum key_type key_type; /* of `key` */
    X509 *leaf;
    STACK_OF(X509) * chain;
    uint16_t schemes[MECHANISM_SCHEMES];
    size_t n_schemes;
    uint64_t generation;
    uint64_t reports;
    struct error reason; /* ERROR_NONE when usable */
};

struct identity *identity_new(struct libctx *libctx, const char *name, struct error *err)
{
    struct identity *identity = calloc(1, sizeof(*identity));

    if (identity != NULL) {
        identity->libctx = libctx;
        identity->expected = 1;
        identity->name = strdup(name);
    }
    if (identity == NULL || identity->name == NULL) {
        identity_free(identity);
        error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    error_set(&identity->reason, ERROR_TOKEN, "identity \"%s\": its keyholder has not reported yet", name);
    return identity;
}

void identity_expect(struct identity *identity, size_t n, bool close_on_removal)
{
    identity->close_on_removal = close_on_removal;
    identity->expected = n < 1 ? 1 : n > IDENTITY_PLACES_MAX ? IDENTITY_PLACES_MAX : n;
}

/* Handshakes that have begun keep key and link; they find no way any more. */
static void drop_key(struct identity *identity)
{
    if (identity->link != NULL)
        key_link_set(identity->link, NULL, 0);
    key_link_free(identity->link);
    EVP_PKEY_free(identity->key);
    identity->link = NULL;
    identity->key = NULL;
}

static void drop_certificate(struct identity *identity)
{
    X509_free(identity->leaf);
    sk_X509_pop_free(identity->chain, X509_free);
    identity->leaf = NULL;
    identity->chain = NULL;
}

void identity_free(struct identity *identity)
{
    if (identity == NULL)
        return;
    drop_key(identity);
    drop_certificate(identity);
    for (size_t i = 0; i < IDENTITY_PLACES_MAX; i++)
        place_clear(&identity->places[i]);
    free(identity->name);
    free(identity);
}

const char *identity_name(const struct identity *identity)
{
    return identity->name;
}

/* Where `client` reports: its place, a new one, that of a keyholder that is gone, or the first. */
static struct place *place_of(struct identity *identity, const struct keyholder_client *client)
{
    for (size_t i = 0; i < identity->n_places; i++)
        if (identity->places[i].client == client)
            return &identity->places[i];
    if (identity->n_places < identity->expected)
        return &identity->places[identity->n_places++];
    for (size_t i = 0; i < identity->n_places; i++)
        if (identity->places[i].client == NULL)
            return &identity->places[i];
    return &identity->places[0];
}

static struct place *first_usable(struct identity *identity)
{
    for (size_t i = 0; i < identity->n_places; i++)
        if (place_is_usable(&identity->places[i]))
            return &identity->places[i];
    return NULL;
}

/* Two tokens that are there show different certificates: whoever made this list was wrong about one of them. */
static result check_alike(const struct identity *identity, const struct place *first, struct error *err)
{
    char a[256], b[256];

    for (size_t i = 0; i < identity->n_places; i++) {
        const struct place *other = &identity->places[i];

        if (!place_is_usable(other) || X509_cmp(first->leaf, other->leaf) == 0)
            continue;
        return error_set(
            err, ERROR_CONFIG,
            "identity \"%s\": the tokens of its list hold different certificates: \"%.160s\" at %.200s, and "
            "\"%.160s\" at %.200s; a list is for copies of one key and its certificate",
            identity->name, certificate_subject(first->leaf, a, sizeof(a)), first->uri,
            certificate_subject(other->leaf, b, sizeof(b)), other->uri);
    }
    return ERROR_NONE;
}

/* Why none of them can be used. */
static void explain(struct identity *identity, struct error *ret)
{
    char text[ERROR_TEXT_MAX] = "";
    size_t used = 0;

    if (identity->expected == 1) {
        *ret = identity->places[0].reason;
        return;
    }
    for (size_t i = 0; i < identity->n_places && used < sizeof(text) / 2; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.300s", i == 0 ? "" : "; and ",
                                 identity->places[i].reason.text);
    (void)error_set(ret, identity->places[0].reason.category, "%s", text);
}

static bool is_shown(const struct identity *identity, const struct place *place)
{
    const struct place shown = {.leaf = identity->leaf, .chain = identity->chain};

    return identity->leaf != NULL && place_same_chain(&shown, place);
}

static result use_certificate(struct identity *identity, const struct place *place, struct error *err)
{
    STACK_OF(X509) *chain = X509_chain_up_ref(place->chain);

    if (chain == NULL || X509_up_ref(place->leaf) != 1) {
        sk_X509_pop_free(chain, X509_free);
        return error_set(err, ERROR_INTERNAL, "out of memory");
    }
    drop_key(identity);
    drop_certificate(identity);
    identity->leaf = place->leaf;
    identity->chain = chain;
    return ERROR_NONE;
}

/* Build the provider's key for the leaf. */
static result make_key(struct identity *identity, struct error *err)
{
    EVP_PKEY *public_key = X509_get0_pubkey(identity->leaf);
    struct key *key;

    if (public_key == NULL)
        return error_set_openssl(err, ERROR_CONFIG, "identity \"%s\": the certificate's key cannot be used",
                                 identity->name);
    if (identity->link == NULL)
        identity->link = key_link_new();
    if (identity->link == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    key = key_new(identity->link, public_key, err);
    if (key == NULL) {
        error_prefix(err, "identity \"%s\"", identity->name);
        return err->category;
    }
    identity->key = key_wrap(key, libctx_complete(identity->libctx), err);
    identity->key_type = key_type(key);
    key_free(key);
    if (identity->key == NULL)
        return err->category;
    identity->generation++;
    return ERROR_NONE;
}

/* Every keyholder that runs and shows this certificate is a way to the key. */
static void set_ways(struct identity *identity)
{
    struct key_way ways[IDENTITY_PLACES_MAX];
    size_t n = 0;

    for (size_t i = 0; i < identity->n_places; i++) {
        const struct place *place = &identity->places[i];

        if (place->client == NULL || place->leaf == NULL || X509_cmp(place->leaf, identity->leaf) != 0)
            continue;
        ways[n] = (struct key_way){.client = place->client,
                                   .number = place->number,
                                   .usable = place_is_usable(place),
                                   .n_schemes = place->n_schemes};
        memcpy(ways[n++].schemes, place->schemes, sizeof(place->schemes));
    }
    if (identity->link != NULL)
        key_link_set(identity->link, ways, n);
}

static bool place_can(const struct place *place, uint16_t scheme)
{
    for (size_t i = 0; i < place->n_schemes; i++)
        if (place->schemes[i] == scheme)
            return true;
    return false;
}

/* What all usable tokens can make, so that each can stand in for another; where that is nothing, what the first can. */
static void set_schemes(struct identity *identity, const struct place *first)
{
    identity->n_schemes = 0;
    for (size_t s = 0; s < first->n_schemes; s++) {
        bool common = true;

        for (size_t i = 0; i < identity->n_places; i++)
            common = common &&
                     (!place_is_usable(&identity->places[i]) || place_can(&identity->places[i], first->schemes[s]));
        if (common)
            identity->schemes[identity->n_schemes++] = first->schemes[s];
    }
    if (identity->n_schemes > 0)
        return;
    memcpy(identity->schemes, first->schemes, sizeof(identity->schemes));
    identity->n_schemes = first->n_schemes;
}

static result combine(struct identity *identity, struct error *err)
{
    struct place *usable = first_usable(identity);
    struct place *place = usable != NULL ? usable : &identity->places[0];
    result r = ERROR_NONE;

    if (usable != NULL)
        r = check_alike(identity, usable, err);
    if (r != ERROR_NONE)
        return r;
    identity->chosen = place;
    /* A token that is away must not take the certificate from one that was there before. */
    if (place->leaf != NULL && (usable != NULL || identity->leaf == NULL || identity->expected == 1) &&
        !is_shown(identity, place))
        r = use_certificate(identity, place, err);
    if (r == ERROR_NONE && identity->leaf != NULL && identity->key == NULL && place->client != NULL)
        r = make_key(identity, err);
    if (r != ERROR_NONE)
        return r;
    if (identity->leaf != NULL)
        set_ways(identity);
    set_schemes(identity, place);
    if (usable != NULL)
        return ERROR_NONE;
    explain(identity, err);
    return err->category;
}

/* After any change of a place. */
static void settle(struct identity *identity)
{
    const enum error_category before = identity->reason.category;
    struct error reason = ERROR_INIT;

    if (combine(identity, &reason) == ERROR_NONE)
        reason.category = ERROR_NONE;
    identity->reason = reason;
    identity->reports++;
    if (before != reason.category)
        identity->generation++;
}

void identity_update(struct identity *identity, struct keyholder_client *client,
                     const struct keyholder_identity *announced)
{
    place_take(place_of(identity, client), identity->libctx, client, announced);
    settle(identity);
}

static bool has_client(const struct identity *identity)
{
    for (size_t i = 0; i < identity->n_places; i++)
        if (identity->places[i].client != NULL)
            return true;
    return false;
}

void identity_gone(struct identity *identity, const struct keyholder_client *client, const struct error *reason)
{
    place_gone(place_of(identity, client), identity->name, reason);
    if (!has_client(identity)) {
        drop_key(identity);
        identity->generation++;
    }
    settle(identity);
}

bool identity_is_settled(const struct identity *identity)
{
    return identity->reason.category == ERROR_NONE || identity->n_places >= identity->expected;
}

enum token_state identity_state(const struct identity *identity)
{
    static const int ranks[] = {
        [TOKEN_FAILED] = 0, [TOKEN_ABSENT] = 1, [TOKEN_LOCKED] = 2, [TOKEN_PRESENT] = 3, [TOKEN_READY] = 4};
    enum token_state best = TOKEN_FAILED;

    for (size_t i = 0; i < identity->n_places; i++)
        if (ranks[identity->places[i].state] > ranks[best])
            best = identity->places[i].state;
    return best;
}

bool identity_ends_connections(const struct identity *identity)
{
    for (size_t i = 0; i < identity->n_places; i++)
        if (identity->places[i].state != TOKEN_ABSENT)
            return false;
    return identity->close_on_removal && identity->n_places >= identity->expected;
}

result identity_usable(const struct identity *identity, struct error *err)
{
    if (identity->reason.category != ERROR_NONE && err != NULL)
        *err = identity->reason;
    return identity->reason.category;
}

void identity_want(const struct identity *identity)
{
    for (size_t i = 0; i < identity->n_places; i++)
        if (identity->places[i].client != NULL && !place_is_usable(&identity->places[i]))
            keyholder_client_look(identity->places[i].client);
}

X509 *identity_certificate(const struct identity *identity)
{
    return identity->leaf;
}

int64_t identity_not_after(const struct identity *identity)
{
    struct tm broken;

    if (identity->leaf == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(identity->leaf), &broken) != 1)
        return 0;
    return (int64_t)timegm(&broken);
}

STACK_OF(X509) * identity_chain(const struct identity *identity)
{
    return identity->chain;
}

EVP_PKEY *identity_key(const struct identity *identity)
{
    return identity->key;
}

enum key_type identity_key_type(const struct identity *identity)
{
    return identity->key_type;
}

const uint16_t *identity_schemes(const struct identity *identity, size_t *ret_n)
{
    *ret_n = identity->n_schemes;
    return identity->schemes;
}

const char *identity_uri(const struct identity *identity)
{
    return identity->chosen == NULL || identity->chosen->uri == NULL ? "" : identity->chosen->uri;
}

uint64_t identity_generation(const struct identity *identity)
{
    return identity->generation;
}

uint64_t identity_reports(const struct identity *identity)
{
    return identity->reports;
}

#include "tls/choice.h"

#include "base/buffer.h"
#include "base/text.h"
#include "tls/failure.h"
#include "tls/fit.h"
#include "tls/internal.h"
#include "tls/narrate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

/* Room for the names of all schemes in OpenSSL's list form. */
#define SCHEME_LIST_MAX 512

/* Why an identity does not fit, in words. */
#define WHY_MAX 256

static bool has_scheme(const struct identity *identity, uint16_t scheme)
{
    size_t n;
    const uint16_t *schemes = identity_schemes(identity, &n);

    for (size_t i = 0; i < n; i++)
        if (schemes[i] == scheme)
            return true;
    return false;
}

bool choice_fits_tls_1_3(const struct identity *identity)
{
    size_t n;
    const uint16_t *schemes = identity_schemes(identity, &n);

    if (identity_key(identity) == NULL)
        return true;
    for (size_t i = 0; i < n; i++)
        if (fit_version(identity_key(identity), schemes[i], TLS1_3_VERSION))
            return true;
    return false;
}

static bool usable(const struct identity *identity)
{
    return identity_usable(identity, NULL) == ERROR_NONE && identity_key(identity) != NULL;
}

/*
 * libssl takes the first shared scheme that fits the key's type; it knows nothing of tokens. So a scheme is allowed
 * only if every usable identity of that type can make it, or, where they have none in common, if one of them can.
 */
static bool allow_scheme(const struct context *context, uint16_t scheme, bool strict)
{
    bool found = false;

    for (size_t i = 0; i < context->n_identities; i++) {
        const struct identity *identity = context->identities[i];

        if (!usable(identity) || !mechanism_scheme_fits(scheme, identity_key_type(identity)))
            continue;
        if (has_scheme(identity, scheme))
            found = true;
        else if (strict)
            return false;
    }
    return found;
}

static bool type_has_common(const struct context *context, uint16_t like)
{
    for (enum key_type type = KEY_TYPE_RSA; type <= KEY_TYPE_ED25519; type++) {
        if (!mechanism_scheme_fits(like, type))
            continue;
        for (size_t i = 0; i < MECHANISM_SCHEMES; i++)
            if (mechanism_scheme_fits(mechanism_schemes[i], type) && allow_scheme(context, mechanism_schemes[i], true))
                return true;
    }
    return false;
}

static void list_schemes(const struct context *context, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < MECHANISM_SCHEMES; i++) {
        uint16_t scheme = mechanism_schemes[i];
        const char *name = mechanism_scheme_openssl_name(scheme);

        if (name == NULL || !allow_scheme(context, scheme, type_has_common(context, scheme)))
            continue;
        if (used + strlen(name) + 2 > size)
            return;
        used += (size_t)snprintf(out + used, size - used, "%s%s", used == 0 ? "" : ":", name);
    }
}

static result use_identity(struct connection *connection, struct identity *identity, struct error *err)
{
    if (SSL_use_cert_and_key(connection->ssl, identity_certificate(identity), identity_key(identity),
                             identity_chain(identity), 1) != 1)
        return error_set_openssl(err, ERROR_CONFIG, "identity \"%s\": libssl refuses its certificate",
                                 identity_name(identity));
    connection->identity = identity;
    connection->identity_generation = identity_generation(identity);
    return ERROR_NONE;
}

/* A server has nobody to ask: it shows every identity that is usable, one for each type of key. */
static result use_all(struct connection *connection, struct error *err)
{
    const struct context *context = connection->context;

    for (size_t i = context->n_identities; i-- > 0;) {
        if (usable(context->identities[i])) {
            result r = use_identity(connection, context->identities[i], err);

            if (r != ERROR_NONE)
                return r;
        }
    }
    return ERROR_NONE;
}

static bool nobody_fits_tls_1_3(const struct context *context)
{
    for (size_t i = 0; i < context->n_identities; i++)
        if (usable(context->identities[i]) && choice_fits_tls_1_3(context->identities[i]))
            return false;
    return true;
}

result choice_refresh(struct context *context, struct error *err)
{
    char schemes[SCHEME_LIST_MAX];
    uint64_t reports = 0;
    long ok;

    for (size_t i = 0; i < context->n_identities; i++)
        reports += identity_reports(context->identities[i]);
    if (reports == context->schemes_as_of)
        return ERROR_NONE;
    list_schemes(context, schemes, sizeof(schemes));
    /* Without a usable identity there is none, and choice_prepare() says why. */
    if (schemes[0] != '\0') {
        ok = context->server ? SSL_CTX_set1_sigalgs_list(context->ssl, schemes)
                             : SSL_CTX_set1_client_sigalgs_list(context->ssl, schemes);
        if (ok != 1)
            return error_set_openssl(err, ERROR_INTERNAL, "cannot set the signature schemes %s", schemes);
    }
    context->without_tls_1_3 = nobody_fits_tls_1_3(context);
    context->schemes_as_of = reports;
    return ERROR_NONE;
}

/*
 * Where no usable identity can sign in TLS 1.3, a peer that prefers it would be answered with a failure: 1.2 is all
 * that is offered then, if the configuration allows it.
 */
static result limit_version(struct connection *connection, struct error *err)
{
    const struct context *context = connection->context;

    if (!context->without_tls_1_3 || context->version == CONTEXT_TLS_1_3)
        return ERROR_NONE;
    if (SSL_set_max_proto_version(connection->ssl, TLS1_2_VERSION) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot leave TLS 1.3 out");
    narrate_line(connection, "hello", "TLS 1.3 is not offered: " CHOICE_WHY_NOT_TLS_1_3);
    return ERROR_NONE;
}

result choice_prepare(struct connection *connection, struct error *err)
{
    const struct context *context = connection->context;
    size_t n = 0;
    result r;

    if (context->n_identities == 0)
        return ERROR_NONE;
    for (size_t i = 0; i < context->n_identities; i++) {
        if (usable(context->identities[i]))
            n++;
        else
            identity_want(context->identities[i]);
    }
    if (n == 0) {
        if (identity_usable(context->identities[0], err) != ERROR_NONE)
            return identity_usable(context->identities[0], NULL);
        return error_set(err, ERROR_TOKEN, "identity \"%s\": no key", identity_name(context->identities[0]));
    }
    r = limit_version(connection, err);
    if (r == ERROR_NONE && context->server)
        r = use_all(connection, err);
    return r;
}

/* The scheme libssl will take for this identity: the first shared one that fits the key; 0 when there is none. */
static uint16_t shared_scheme(struct connection *connection, const struct identity *identity)
{
    int version = SSL_version(connection->ssl);
    enum key_type type = identity_key_type(identity);
    unsigned char low, high;
    int n = SSL_get_shared_sigalgs(connection->ssl, 0, NULL, NULL, NULL, NULL, NULL);

    for (int i = 0; i < n; i++) {
        uint16_t scheme;

        if (SSL_get_shared_sigalgs(connection->ssl, i, NULL, NULL, NULL, &low, &high) <= 0)
            break;
        scheme = (uint16_t)((high << 8) | low);
        if (mechanism_scheme_fits(scheme, type) && fit_version(identity_key(identity), scheme, version))
            return has_scheme(identity, scheme) ? scheme : 0;
    }
    return 0;
}

/* TLS 1.2 lists certificate types besides the schemes. */
static bool type_acceptable(const struct connection *connection, const struct identity *identity)
{
    const unsigned char *types = NULL;
    size_t n;

    if (SSL_version(connection->ssl) >= TLS1_3_VERSION)
        return true;
    n = (size_t)SSL_get0_certificate_types(connection->ssl, &types);
    return fit_type(identity_key(identity), types, n);
}

/* What the server may see otherwise: dates by its own clock, issuers by a chain it can complete. Text, or NULL. */
static const char *doubt(const struct connection *connection, const struct identity *identity)
{
    const X509 *leaf = identity_certificate(identity);

    if (X509_cmp_current_time(X509_get0_notBefore(leaf)) >= 0)
        return "its certificate is not valid yet";
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) <= 0)
        return "its certificate has expired";
    if (fit_issuer(leaf, identity_chain(identity), SSL_get0_peer_CA_list(connection->ssl)))
        return NULL;
    if (sk_X509_num(identity_chain(identity)) > 0)
        return "no issuer in its chain is one that the server accepts";
    return "no issuer in its chain is one that the server accepts (the chain is the leaf alone: if an intermediate is "
           "missing, give a file with it as certificate)";
}

/*
 * True when it fits; else why not, in words. An identity that is the only one was chosen by the configuration: doubts
 * are told, and the server is the judge.
 */
static bool identity_fits(struct connection *connection, const struct identity *identity, char *why, size_t size)
{
    struct error reason = ERROR_INIT;
    const char *doubts;

    if (!usable(identity)) {
        (void)!identity_usable(identity, &reason);
        (void)snprintf(why, size, "%.200s", reason.text);
        return false;
    }
    if ((X509_get_key_usage(identity_certificate(identity)) & KU_DIGITAL_SIGNATURE) == 0) {
        (void)snprintf(why, size, "the key usage of its certificate does not allow digital signatures");
        return false;
    }
    if (!type_acceptable(connection, identity) || shared_scheme(connection, identity) == 0) {
        (void)snprintf(why, size, "the server accepts no signature scheme that its token can make");
        return false;
    }
    doubts = doubt(connection, identity);
    if (doubts == NULL)
        return true;
    (void)snprintf(why, size, "%s", doubts);
    if (connection->context->n_identities > 1)
        return false;
    narrate_line(connection, "choice", "warning: %s; it is the only identity, so the server will judge", doubts);
    return true;
}

static void refuse_all(struct connection *connection, struct buffer *reasons)
{
    const struct context *context = connection->context;
    struct error unusable = ERROR_INIT;
    size_t n_unusable = 0;

    for (size_t i = 0; i < context->n_identities; i++)
        if (!usable(context->identities[i]) && n_unusable++ == 0)
            (void)!identity_usable(context->identities[i], &unusable);
    buffer_put_u8(reasons, 0);
    /* A token that is away is the more useful message: it is what the operator can change. */
    if (unusable.category != ERROR_NONE && context->n_identities == 1)
        *failure_of(connection) = unusable;
    else
        error_set(failure_of(connection), unusable.category == ERROR_NONE ? ERROR_VERIFY : unusable.category,
                  "the server asks for a certificate and none fits%s",
                  buffer_ok(reasons) ? (const char *)reasons->data : "");
}

static void choose(struct connection *connection)
{
    const struct context *context = connection->context;
    struct buffer reasons;
    char why[WHY_MAX];
    char line[WHY_MAX + 128];

    buffer_init(&reasons, ERROR_TEXT_MAX * 4);
    for (size_t i = 0; i < context->n_identities && !connection->choice_good; i++) {
        struct identity *identity = context->identities[i];
        const char *name = identity_name(identity);

        if (!identity_fits(connection, identity, why, sizeof(why))) {
            narrate_line(connection, "choice", "identity \"%s\" is passed over: %s", name, why);
            (void)snprintf(line, sizeof(line), "; \"%.80s\": %s", name, why);
            buffer_put_bytes(&reasons, line, strlen(line));
            continue;
        }
        if (use_identity(connection, identity, failure_of(connection)) != ERROR_NONE)
            break;
        narrate_line(connection, "choice", "identity \"%s\" fits: issuer, validity, key usage and %s", name,
                     mechanism_scheme_name(shared_scheme(connection, identity)));
        connection->choice_good = true;
    }
    if (!connection->choice_good && failure_of(connection)->category == ERROR_NONE)
        refuse_all(connection, &reasons);
    buffer_free(&reasons);
}

void choice_make(struct connection *connection)
{
    const struct context *context = connection->context;

    connection->choice_made = true;
    connection->certificate_requested = true;
    narrate_request(connection);
    if (context->n_identities > 0) {
        choose(connection);
    } else if (context->refuse_certificate_request) {
        error_set(failure_of(connection), ERROR_VERIFY,
                  "the server asks for a client certificate, and one-way TLS was demanded");
    } else {
        narrate_line(connection, "choice", "no identity is named: an empty certificate is sent (one-way TLS)");
        connection->choice_good = true;
    }
}

void choice_note_shown(struct connection *connection)
{
    const struct context *context = connection->context;
    const X509 *shown = SSL_get_certificate(connection->ssl);

    for (size_t i = 0; shown != NULL && i < context->n_identities; i++)
        if (identity_certificate(context->identities[i]) == shown)
            connection->identity = context->identities[i];
}

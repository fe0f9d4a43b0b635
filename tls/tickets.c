#include "tls/tickets.h"

#include "base/buffer.h"
#include "base/secret.h"
#include "tls/internal.h"
#include "tls/libctx.h"
#include "tls/ticket_keys.h"
#include "tls/verify/trust.h"
#include "tls/verify/verdict.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/*
 * What a ticket says besides libssl's own: this version, then how many certificates follow (those of the path between
 * leaf and anchor, in that order), or NOBODY for a client that sent no certificate. Of each: its length and itself, so
 * that a worker or a machine that has never met this CA can put the path together; or zero and its hash, when the
 * ticket, which is part of the client's first message, would become too long.
 */
#define VERSION 2
#define NOBODY 0xff
#define HASH 32
#define BETWEEN_MAX 8

struct seen {
    uint8_t hash[HASH];
    X509 *certificate;
    uint64_t turn; /* of the last use */
};

struct tickets {
    struct context *context;
    struct ticket_keys *keys;
    EVP_CIPHER *cipher;
    uint8_t binding[SSL_MAX_SID_CTX_LENGTH];
    struct seen seen[TICKETS_CERTIFICATES_MAX];
    uint64_t turn;
};

static struct tickets *tickets_of(const SSL *ssl)
{
    const struct context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    return context->tickets;
}

static bool hash_of(const X509 *certificate, uint8_t hash[HASH])
{
    unsigned length = 0;

    return X509_digest(certificate, EVP_sha256(), hash, &length) == 1 && length == HASH;
}

static X509 *recall(struct tickets *tickets, const uint8_t hash[HASH])
{
    for (size_t i = 0; i < TICKETS_CERTIFICATES_MAX; i++) {
        struct seen *seen = &tickets->seen[i];

        if (seen->certificate == NULL || memcmp(seen->hash, hash, HASH) != 0)
            continue;
        seen->turn = ++tickets->turn;
        return seen->certificate;
    }
    return NULL;
}

static bool remember(struct tickets *tickets, X509 *certificate, const uint8_t hash[HASH])
{
    struct seen *place = &tickets->seen[0];

    if (recall(tickets, hash) != NULL)
        return true;
    for (size_t i = 1; i < TICKETS_CERTIFICATES_MAX; i++) {
        if (tickets->seen[i].turn < place->turn)
            place = &tickets->seen[i];
    }
    if (X509_up_ref(certificate) != 1)
        return false;
    X509_free(place->certificate);
    *place = (struct seen){.certificate = certificate, .turn = ++tickets->turn};
    memcpy(place->hash, hash, HASH);
    return true;
}

static bool put_certificate(X509 *certificate, const uint8_t hash[HASH], size_t room, struct buffer *out)
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);
    bool carried = length > 0 && (size_t)length <= room;

    buffer_put_u16(out, carried ? (uint16_t)length : 0);
    buffer_put_bytes(out, carried ? der : hash, carried ? (size_t)length : HASH);
    OPENSSL_free(der);
    return length > 0;
}

/* A path that is longer than a ticket tells is resumed by nobody. */
static bool describe_path(struct tickets *tickets, const STACK_OF(X509) * path, struct buffer *out)
{
    int n = sk_X509_num(path) - 2;

    if (n < -1 || n > BETWEEN_MAX)
        return false;
    buffer_put_u8(out, VERSION);
    buffer_put_u8(out, n > 0 ? (uint8_t)n : 0);
    for (int i = 1; i <= n; i++) {
        X509 *certificate = sk_X509_value(path, i);
        uint8_t hash[HASH];
        size_t room = out->length < TICKETS_CARRIED_MAX ? TICKETS_CARRIED_MAX - out->length : 0;

        if (!hash_of(certificate, hash) || !remember(tickets, certificate, hash) ||
            !put_certificate(certificate, hash, room, out))
            return false;
    }
    return buffer_ok(out);
}

static bool describe(struct tickets *tickets, const struct connection *connection, struct buffer *out)
{
    if (SSL_get0_peer_certificate(connection->ssl) != NULL)
        return connection->verdict != NULL && connection->verdict->accepted &&
               describe_path(tickets, connection->verdict->path, out);
    buffer_put_u8(out, VERSION);
    buffer_put_u8(out, NOBODY);
    return buffer_ok(out);
}

/* libssl makes a ticket. One about which nothing can be said is not taken back by ticket_comes(). */
static int ticket_leaves(SSL *ssl, void *arg)
{
    struct tickets *tickets = arg;
    struct buffer data;
    bool good;

    buffer_init(&data, TICKETS_CARRIED_MAX + 2 + BETWEEN_MAX * (2 + HASH));
    good = describe(tickets, SSL_get_app_data(ssl), &data) &&
           SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data.data, data.length) == 1;
    if (!good)
        (void)SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), "", 0);
    buffer_free(&data);
    ERR_clear_error();
    /*
     * libssl makes the ticket of a copy of the session, by encoding and decoding it. To decode the key of the client's
     * certificate for that costs more than everything else of it, and nobody uses it: seal() comes next.
     */
    libctx_set_aside(tickets->context->libctx);
    return 1;
}

static X509 *decode(const struct tickets *tickets, const uint8_t *der, size_t length)
{
    X509 *certificate = X509_new_ex(libctx_get(tickets->context->libctx), NULL);
    const unsigned char *at = der;

    /* On failure d2i_X509() has freed the certificate. */
    if (certificate == NULL || d2i_X509(&certificate, &at, (long)length) == NULL)
        return NULL;
    if (at == der + length)
        return certificate;
    X509_free(certificate);
    return NULL;
}

/* A reference to the next certificate of a path; NULL when only its hash came and it was never seen here. */
static X509 *next_certificate(struct tickets *tickets, struct reader *reader)
{
    size_t length = reader_u16(reader);
    const uint8_t *bytes = reader_bytes(reader, length == 0 ? HASH : length);
    uint8_t hash[HASH];
    size_t hashed = 0;
    X509 *certificate;

    if (bytes == NULL)
        return NULL;
    if (length == 0)
        memcpy(hash, bytes, HASH);
    else if (EVP_Q_digest(libctx_get(tickets->context->libctx), "SHA256", NULL, bytes, length, hash, &hashed) != 1)
        return NULL;
    certificate = recall(tickets, hash);
    if (certificate != NULL)
        return X509_up_ref(certificate) == 1 ? certificate : NULL;
    certificate = length == 0 ? NULL : decode(tickets, bytes, length);
    if (certificate != NULL && !remember(tickets, certificate, hash)) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

/* The certificates between leaf and anchor; NULL when one of them is not known. */
static STACK_OF(X509) * recall_path(struct tickets *tickets, struct reader *reader, unsigned n)
{
    STACK_OF(X509) *path = sk_X509_new_null();

    for (unsigned i = 0; path != NULL && i < n; i++) {
        X509 *certificate = next_certificate(tickets, reader);

        if (certificate == NULL)
            goto err0;
        if (sk_X509_push(path, certificate) <= 0) {
            X509_free(certificate);
            goto err0;
        }
    }
    return path;

err0:
    sk_X509_pop_free(path, X509_free);
    return NULL;
}

static bool verify(struct tickets *tickets, struct connection *connection, X509 *peer, struct reader *reader,
                   unsigned n)
{
    STACK_OF(X509) *path = n > BETWEEN_MAX ? NULL : recall_path(tickets, reader, n);
    bool accepted;

    connection->ticket_in_question = true;
    accepted = path != NULL && reader_done(reader) && connection_await_verdict(connection, peer, path);
    connection->ticket_in_question = false;
    if (accepted)
        connection->verdict_of_ticket = true;
    else
        connection_forget_verdict(connection);
    sk_X509_pop_free(path, X509_free);
    return accepted;
}

/* Within the handshake's job. */
static bool may_resume(struct tickets *tickets, struct connection *connection, SSL_SESSION *session)
{
    const struct context *context = tickets->context;
    X509 *peer = SSL_SESSION_get0_peer(session);
    struct reader reader;
    void *data = NULL;
    size_t length = 0;
    unsigned n;

    connection_forget_verdict(connection);
    if (SSL_SESSION_get0_ticket_appdata(session, &data, &length) != 1 ||
        connection->tickets_tried++ >= TICKETS_TRIED_MAX)
        return false;
    reader_init(&reader, data, length);
    if (reader_u8(&reader) != VERSION)
        return false;
    n = reader_u8(&reader);
    if (n == NOBODY)
        return reader_done(&reader) && peer == NULL && context->client_auth != CONTEXT_CLIENT_AUTH_REQUIRED;
    return reader_ok(&reader) && peer != NULL && context->client_auth != CONTEXT_CLIENT_AUTH_NONE &&
           verify(tickets, connection, peer, &reader, n);
}

/* lint: the parameters are libssl's. */
static SSL_TICKET_RETURN ticket_comes(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t name_length,
                                      SSL_TICKET_STATUS status, void *arg)
{
    bool good;

    (void)name;
    (void)name_length;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    good = may_resume(arg, SSL_get_app_data(ssl), session);
    ERR_clear_error();
    if (!good)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    /* A TLS 1.3 client uses each ticket once (RFC 8446 C.4), so it gets the next one. */
    return status == SSL_TICKET_SUCCESS && SSL_version(ssl) < TLS1_3_VERSION ? SSL_TICKET_RETURN_USE
                                                                             : SSL_TICKET_RETURN_USE_RENEW;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_keys_one *key)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* lint: the parameters are libssl's. Returns 1, 2 for a key that is not the current one, 0 for none, -1 for failure. */
static int seal(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing)
{
    struct tickets *tickets = tickets_of(ssl);
    struct ticket_keys_one key;
    bool current = true, good = false;
    bool found;

    libctx_take_back(tickets->context->libctx); /* first: random numbers are next */
    found = sealing ? ticket_keys_current(tickets->keys, &key) : ticket_keys_find(tickets->keys, name, &key, &current);
    if (!found)
        return 0;
    if (sealing) {
        memcpy(name, key.name, TICKET_KEYS_NAME);
        good = RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) == 1 &&
               EVP_EncryptInit_ex2(cipher, tickets->cipher, key.cipher, iv, NULL) == 1 && set_mac(mac, &key);
    } else {
        good = EVP_DecryptInit_ex2(cipher, tickets->cipher, key.cipher, iv, NULL) == 1 && set_mac(mac, &key);
    }
    secret_wipe(&key, sizeof(key));
    if (!good)
        return -1;
    return current ? 1 : 2;
}

/* What is hashed of each: its size, itself. */
static bool hash_part(EVP_MD_CTX *hash, const void *bytes, size_t length)
{
    uint8_t size[2] = {(uint8_t)(length >> 8), (uint8_t)length};

    return EVP_DigestUpdate(hash, size, sizeof(size)) == 1 && EVP_DigestUpdate(hash, bytes, length) == 1;
}

static bool hash_settings(const struct context *context, EVP_MD_CTX *hash)
{
    const uint8_t modes[] = {VERSION, (uint8_t)context->policy};
    uint8_t trust[TRUST_FINGERPRINT] = {0};

    return hash_part(hash, context->name, strlen(context->name)) && hash_part(hash, modes, sizeof(modes)) &&
           (context->trust == NULL || trust_fingerprint(context->trust, trust)) &&
           hash_part(hash, trust, sizeof(trust)) &&
           hash_part(hash, context->spkis, context->n_spkis * sizeof(*context->spkis));
}

/*
 * A ticket of one service is no ticket of another, nor of one of this name that trusts others: keys from a file may be
 * known to machines that are configured differently.
 */
static bool bind_to_settings(struct tickets *tickets)
{
    const struct context *context = tickets->context;
    EVP_MD *digest = EVP_MD_fetch(libctx_get(context->libctx), "SHA256", NULL);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    unsigned length = 0;
    bool good = digest != NULL && hash != NULL && EVP_DigestInit_ex2(hash, digest, NULL) == 1 &&
                hash_settings(context, hash) && EVP_DigestFinal_ex(hash, tickets->binding, &length) == 1 &&
                SSL_CTX_set_session_id_context(context->ssl, tickets->binding, sizeof(tickets->binding)) == 1;

    EVP_MD_CTX_free(hash);
    EVP_MD_free(digest);
    return good;
}

result tickets_new(struct context *context, struct ticket_keys *keys, struct tickets **ret, struct error *err)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));

    if (tickets == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    tickets->context = context;
    tickets->keys = keys;
    tickets->cipher = EVP_CIPHER_fetch(libctx_get(context->libctx), "AES-256-CBC", NULL);
    if (tickets->cipher == NULL || !bind_to_settings(tickets) ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context->ssl, seal) != 1 ||
        SSL_CTX_set_session_ticket_cb(context->ssl, ticket_leaves, ticket_comes, tickets) != 1) {
        tickets_free(tickets);
        return error_set_openssl(err, ERROR_INTERNAL, "cannot prepare session tickets");
    }
    (void)SSL_CTX_clear_options(context->ssl, SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_num_tickets(context->ssl, 2);
    (void)SSL_CTX_set_timeout(context->ssl, TICKET_KEYS_LIFETIME_S);
    *ret = tickets;
    return ERROR_NONE;
}

void tickets_free(struct tickets *tickets)
{
    if (tickets == NULL)
        return;
    EVP_CIPHER_free(tickets->cipher);
    for (size_t i = 0; i < TICKETS_CERTIFICATES_MAX; i++)
        X509_free(tickets->seen[i].certificate);
    free(tickets);
}

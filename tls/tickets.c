#include "tls/tickets.h"

#include "base/buffer.h"
#include "base/secret.h"
#include "tls/internal.h"
#include "tls/libctx.h"
#include "tls/ticket_keys.h"
#include "tls/verify/verdict.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

/*
 * What a ticket says besides libssl's own: this version, then how many hashes follow (certificates of the path between
 * leaf and anchor, in that order), or NOBODY for a client that sent no certificate.
 */
#define VERSION 1
#define NOBODY 0xff
#define HASH 32
#define HASHES_MAX 8

struct seen {
    uint8_t hash[HASH];
    X509 *certificate;
    uint64_t turn; /* of the last use */
};

struct tickets {
    struct context *context;
    struct ticket_keys *keys;
    EVP_CIPHER *cipher;
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

/* A path that is longer than a ticket tells is resumed by nobody. */
static bool describe_path(struct tickets *tickets, const STACK_OF(X509) * path, struct buffer *out)
{
    int n = sk_X509_num(path) - 2;

    if (n < -1 || n > HASHES_MAX)
        return false;
    buffer_put_u8(out, VERSION);
    buffer_put_u8(out, n > 0 ? (uint8_t)n : 0);
    for (int i = 1; i <= n; i++) {
        X509 *certificate = sk_X509_value(path, i);
        uint8_t hash[HASH];

        if (!hash_of(certificate, hash) || !remember(tickets, certificate, hash))
            return false;
        buffer_put_bytes(out, hash, HASH);
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

    buffer_init(&data, 2 + HASHES_MAX * HASH);
    good = describe(tickets, SSL_get_app_data(ssl), &data) &&
           SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data.data, data.length) == 1;
    if (!good)
        (void)SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), "", 0);
    buffer_free(&data);
    ERR_clear_error();
    return 1;
}

/* The certificates between leaf and anchor; NULL when one of them was never seen here. */
static STACK_OF(X509) * recall_path(struct tickets *tickets, struct reader *reader, unsigned n)
{
    STACK_OF(X509) *path = sk_X509_new_null();

    for (unsigned i = 0; path != NULL && i < n; i++) {
        const uint8_t *hash = reader_bytes(reader, HASH);
        X509 *certificate = hash == NULL ? NULL : recall(tickets, hash);

        if (certificate == NULL || X509_up_ref(certificate) != 1)
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
    STACK_OF(X509) *path = n > HASHES_MAX ? NULL : recall_path(tickets, reader, n);
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
    bool current = true;
    bool found =
        sealing ? ticket_keys_current(tickets->keys, &key) : ticket_keys_find(tickets->keys, name, &key, &current);
    bool good = false;

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

/* A ticket of one service is no ticket of another, whose allow rules and certificate differ. */
static bool bind_to_name(const struct context *context)
{
    uint8_t id[SSL_MAX_SID_CTX_LENGTH];
    size_t length = 0;

    return EVP_Q_digest(libctx_get(context->libctx), "SHA256", NULL, context->name, strlen(context->name), id,
                        &length) == 1 &&
           length == sizeof(id) && SSL_CTX_set_session_id_context(context->ssl, id, sizeof(id)) == 1;
}

result tickets_new(struct context *context, struct ticket_keys *keys, struct tickets **ret, struct error *err)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));

    if (tickets == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    tickets->context = context;
    tickets->keys = keys;
    tickets->cipher = EVP_CIPHER_fetch(libctx_get(context->libctx), "AES-256-CBC", NULL);
    if (tickets->cipher == NULL || !bind_to_name(context) ||
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

#include "tls/sessions.h"

#include "tls/internal.h"
#include "tls/judge.h"
#include "tls/narrate.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Sessions kept per context; the oldest makes room. A TLS 1.3 server sends two for each full handshake, and each is
 * used once: as many connections as this can be resumed at the same time.
 */
#define SESSIONS_MAX 256

struct entry {
    SSL_SESSION *session;      /* NULL: free */
    char *server_name;         /* NULL: none was given */
    struct identity *identity; /* borrowed: outlives the context; NULL: one-way */
    uint64_t generation;       /* of the identity when it signed */
    STACK_OF(X509) * sent;     /* what the server sent, leaf first: checked again before each use */
    uint8_t *staple;           /* the OCSP response it stapled, which is checked again too; NULL: none */
    size_t staple_length;      /* bytes */
};

struct sessions {
    struct context *context;
    struct entry entries[SESSIONS_MAX]; /* oldest first, free ones last */
    size_t n;
};

static void entry_clear(struct entry *entry)
{
    SSL_SESSION_free(entry->session);
    free(entry->server_name);
    free(entry->staple);
    sk_X509_pop_free(entry->sent, X509_free);
    memset(entry, 0, sizeof(*entry));
}

static void remove_at(struct sessions *sessions, size_t i)
{
    entry_clear(&sessions->entries[i]);
    sessions->n--;
    memmove(&sessions->entries[i], &sessions->entries[i + 1], (sessions->n - i) * sizeof(struct entry));
    memset(&sessions->entries[sessions->n], 0, sizeof(struct entry));
}

/* False when memory is exhausted. */
static bool keep_staple(const struct connection *connection, struct entry *entry)
{
    const unsigned char *der = NULL;
    long length = SSL_get_tlsext_status_ocsp_resp(connection->ssl, &der);

    if (der == NULL || length <= 0)
        return true;
    entry->staple = malloc((size_t)length);
    if (entry->staple == NULL)
        return false;
    memcpy(entry->staple, der, (size_t)length);
    entry->staple_length = (size_t)length;
    return true;
}

/* Keep `session` (its reference is taken over when this returns true) for later connections like this one. */
static bool keep(struct connection *connection, SSL_SESSION *session)
{
    struct sessions *sessions = connection->context->sessions;
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(connection->ssl);
    struct entry entry = {.identity = connection->identity, .generation = connection->identity_generation};

    if (SSL_SESSION_is_resumable(session) != 1 || sk_X509_num(sent) < 1)
        return false;
    entry.sent = X509_chain_up_ref(sent);
    entry.server_name = connection->server_name == NULL ? NULL : strdup(connection->server_name);
    if (entry.sent == NULL || (entry.server_name == NULL) != (connection->server_name == NULL) ||
        !keep_staple(connection, &entry)) {
        entry_clear(&entry);
        return false;
    }
    entry.session = session;
    if (sessions->n == SESSIONS_MAX)
        remove_at(sessions, 0);
    sessions->entries[sessions->n++] = entry;
    return true;
}

/* TLS 1.3 tickets arrive after the handshake; a TLS 1.2 session is taken by sessions_established(). */
static int new_session(SSL *ssl, SSL_SESSION *session)
{
    struct connection *connection = SSL_get_app_data(ssl);

    return connection->state == CONNECTION_ESTABLISHED && keep(connection, session);
}

void sessions_established(struct connection *connection)
{
    SSL_SESSION *session;

    if (connection->context->sessions == NULL || SSL_version(connection->ssl) >= TLS1_3_VERSION)
        return;
    /* Without it a session is not bound to the certificates it was made with (RFC 7627 5.3). */
    if (SSL_get_extms_support(connection->ssl) != 1)
        return;
    session = SSL_get1_session(connection->ssl);
    if (session != NULL && !keep(connection, session))
        SSL_SESSION_free(session);
}

result sessions_new(struct context *context, struct sessions **ret, struct error *err)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));

    if (sessions == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    sessions->context = context;
    (void)SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ssl, new_session);
    *ret = sessions;
    return ERROR_NONE;
}

void sessions_free(struct sessions *sessions)
{
    if (sessions == NULL)
        return;
    while (sessions->n > 0)
        remove_at(sessions, sessions->n - 1);
    free(sessions);
}

/* False for a session that can never be used again: its identity has changed, or it is too old. */
static bool alive(const struct entry *entry)
{
    time_t now = time(NULL);

    if (entry->identity != NULL && (identity_usable(entry->identity, NULL) != ERROR_NONE ||
                                    identity_generation(entry->identity) != entry->generation))
        return false;
    return now < SSL_SESSION_get_time(entry->session) + SSL_SESSION_get_timeout(entry->session);
}

static bool same_name(const struct entry *entry, const struct connection *connection)
{
    if (entry->server_name == NULL || connection->server_name == NULL)
        return entry->server_name == connection->server_name;
    return strcmp(entry->server_name, connection->server_name) == 0;
}

/* Resumption skips the server's certificate: so its chain must pass today what it passed then. */
static bool server_still_good(struct connection *connection, const struct entry *entry)
{
    struct verdict *verdict = malloc(sizeof(*verdict));

    if (verdict == NULL)
        return false;
    connection->stapling = CHAIN_STAPLING_ASKED;
    connection->staple = (struct chain_response){.der = entry->staple, .length = entry->staple_length};
    judge_peer(connection, sk_X509_value(entry->sent, 0), entry->sent, verdict);
    connection->stapling = CHAIN_STAPLING_NOT_ASKED;
    connection->staple = (struct chain_response){0};
    if (!verdict->accepted) {
        verdict_free(verdict);
        free(verdict);
        return false;
    }
    connection->verdict = verdict;
    return true;
}

void sessions_offer(struct connection *connection)
{
    struct sessions *sessions = connection->context->sessions;

    for (size_t i = sessions == NULL ? 0 : sessions->n; i-- > 0;) {
        struct entry *entry = &sessions->entries[i];

        if (!alive(entry)) {
            remove_at(sessions, i);
            continue;
        }
        if (!same_name(entry, connection))
            continue;
        if (server_still_good(connection, entry) && SSL_set_session(connection->ssl, entry->session) == 1) {
            connection->resuming = entry->identity;
            connection->identity_generation = entry->generation;
            narrate_line(connection, "hello", "a session is offered; the server's chain was checked again");
        }
        remove_at(sessions, i);
        ERR_clear_error();
        return;
    }
}

#include "client/dial.h"

#include "base/clock.h"
#include "client/progress.h"
#include "net/connector.h"
#include "tls/libctx.h"
#include "tls/verify/crl.h"
#include "tls/verify/trust.h"

#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <unistd.h>

struct dial {
    struct loop *loop;
    struct libctx *libctx;
    struct trust *trust;
    struct crl_snapshot *crls;
    struct holder *holder;
    struct context *context;
    struct connection *connection;
    struct stream stream; /* zeroed until established; then it owns the connection */
    int fd;               /* connected, not yet handed to the connection; -1 otherwise */
    struct explain *explain;
    struct error outcome; /* of the step that the loop runs for */
};

static void finish(struct dial *dial, const struct error *err)
{
    dial->outcome = err != NULL ? *err : (struct error)ERROR_INIT;
    loop_stop(dial->loop);
}

/* The outcome of the step, put into *err when it is a failure. */
static result outcome(struct dial *dial, struct error *err)
{
    loop_run(dial->loop);
    if (dial->outcome.category != ERROR_NONE)
        *err = dial->outcome;
    return dial->outcome.category;
}

static result load_trust(struct dial *dial, const struct dial_config *config, struct error *err)
{
    OSSL_LIB_CTX *libctx = libctx_get(dial->libctx);
    result r = config->pinned != NULL ? trust_load_pinned(config->pinned, libctx, &dial->trust, err)
                                      : trust_load(config->trust, libctx, &dial->trust, err);

    if (r == ERROR_NONE && config->n_crls > 0)
        r = crl_snapshot_load(config->crls, config->n_crls, libctx, &dial->crls, err);
    /* Files named on the command line: a wrong one is a usage error, whatever is wrong with it. */
    if (r != ERROR_NONE && r != ERROR_INTERNAL)
        r = err->category = ERROR_CONFIG;
    return r;
}

static result start_holder(struct dial *dial, const struct dial_config *config, struct error *err)
{
    struct holder_config holder = config->holder;
    uint64_t before = clock_monotonic_ms();
    result r;

    if (holder.uri == NULL)
        return ERROR_NONE;
    holder.loop = dial->loop;
    holder.libctx = dial->libctx;
    r = holder_start(&holder, &dial->holder, err);
    if (r == ERROR_NONE)
        explain_line(config->explain, "token", "ready after %llu ms: %s",
                     (unsigned long long)(clock_monotonic_ms() - before), identity_uri(holder_identity(dial->holder)));
    return r;
}

static result make_context(struct dial *dial, const struct dial_config *config, struct error *err)
{
    struct identity *identity = dial->holder != NULL ? holder_identity(dial->holder) : NULL;
    const struct context_config context = {.libctx = dial->libctx,
                                           .name = "connect",
                                           .identities = &identity,
                                           .n_identities = identity != NULL ? 1 : 0,
                                           .trust = dial->trust,
                                           .spkis = config->spkis,
                                           .n_spkis = config->n_spkis,
                                           .crls = dial->crls,
                                           .revocation = config->revocation,
                                           .policy = CHAIN_POLICY_2026,
                                           .version = config->version,
                                           .alpn = config->alpn,
                                           .refuse_certificate_request = config->one_way,
                                           .insecure_keylog = config->insecure_keylog};

    return context_new(&context, &dial->context, err);
}

static void connected(void *arg, int fd, size_t target, const struct error *err)
{
    struct dial *dial = arg;

    (void)target;
    dial->fd = fd;
    finish(dial, fd < 0 ? err : NULL);
}

static result connect_socket(struct dial *dial, const struct dial_config *config, struct error *err)
{
    const struct connector_config connector = {.loop = dial->loop,
                                               .targets = config->target,
                                               .n_targets = 1,
                                               .timeout_ms = config->timeout_ms,
                                               .done = connected,
                                               .arg = dial};
    uint64_t before = clock_monotonic_ms();
    struct address_socket peer;
    char text[ADDRESS_TEXT_MAX];
    result r;

    if (connector_start(&connector, err) == NULL)
        return err->category;
    r = outcome(dial, err);
    if (r == ERROR_NONE && address_of_peer(dial->fd, &peer, NULL) == ERROR_NONE)
        explain_line(config->explain, "connect", "connected to %s after %llu ms",
                     address_socket_text(&peer, text, sizeof(text)),
                     (unsigned long long)(clock_monotonic_ms() - before));
    return r;
}

static void shaken(void *arg, const struct error *err)
{
    finish(arg, err);
}

static void narrate(void *arg, const char *phase, const char *text)
{
    explain_phase(((struct dial *)arg)->explain, phase, text);
}

static result shake_hands(struct dial *dial, const struct dial_config *config, struct error *err)
{
    const struct connection_config connection = {.loop = dial->loop,
                                                 .context = dial->context,
                                                 .fd = dial->fd,
                                                 .server_name = config->server_name,
                                                 .deadline = clock_deadline(config->timeout_ms),
                                                 .done = shaken,
                                                 .explain = config->explain->out != NULL ? narrate : NULL,
                                                 .arg = dial};
    struct progress progress;
    result r;

    dial->fd = -1;
    dial->connection = connection_start(&connection, err);
    if (dial->connection == NULL)
        return err->category;
    /* What --explain tells goes to the same place. */
    progress_begin(&progress, config->explain->out != NULL ? NULL
                              : dial->holder != NULL       ? "waits for the server and the token"
                                                           : "waits for the server");
    r = outcome(dial, err);
    progress_end(&progress);
    if (r != ERROR_NONE && dial->holder != NULL && (r == ERROR_TOKEN || r == ERROR_PIN)) {
        holder_explain_end(dial->holder, err);
        r = err->category;
    }
    if (r == ERROR_NONE)
        dial->stream = connection_stream(dial->connection);
    return r;
}

result dial_open(const struct dial_config *config, struct dial **ret, struct error *err)
{
    static result (*const steps[])(struct dial *, const struct dial_config *, struct error *) = {
        load_trust, start_holder, make_context, connect_socket, shake_hands};
    struct dial *dial = calloc(1, sizeof(*dial));
    result r = ERROR_NONE;

    *ret = dial;
    if (dial == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    dial->fd = -1;
    dial->explain = config->explain;
    dial->loop = loop_new(err);
    dial->libctx = dial->loop != NULL ? libctx_new_for_tls(err) : NULL;
    if (dial->libctx == NULL)
        return err->category;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && r == ERROR_NONE; i++)
        r = steps[i](dial, config, err);
    /* The signature is made: nothing needs the token any more. */
    if (dial->holder != NULL)
        holder_stop(dial->holder);
    return r;
}

struct stream *dial_stream(struct dial *dial)
{
    return &dial->stream;
}

struct identity *dial_identity(const struct dial *dial)
{
    return dial->holder != NULL ? holder_identity(dial->holder) : NULL;
}

bool dial_info(const struct dial *dial, struct connection_info *ret)
{
    if (dial->connection == NULL)
        return false;
    connection_info(dial->connection, ret);
    return true;
}

bool dial_refused(const struct dial *dial)
{
    return dial->connection != NULL && connection_refused_by_peer(dial->connection);
}

int dial_verdict_error(const struct dial *dial)
{
    struct connection_info info;

    if (!dial_info(dial, &info) || info.verdict == NULL || info.verdict->accepted)
        return X509_V_OK;
    return info.verdict->x509_error;
}

void dial_free(struct dial *dial, bool reset)
{
    if (dial == NULL)
        return;
    if (dial->stream.ops != NULL)
        stream_free(&dial->stream, reset);
    else
        connection_free(dial->connection, reset);
    if (dial->fd >= 0)
        (void)close(dial->fd);
    context_free(dial->context);
    holder_free(dial->holder);
    crl_snapshot_free(dial->crls);
    trust_free(dial->trust);
    libctx_free(dial->libctx);
    loop_free(dial->loop);
    free(dial);
}

#include "tls/judge.h"

#include "base/clock.h"
#include "tls/inquiry.h"
#include "tls/internal.h"
#include "tls/libctx.h"
#include "tls/verify/adopt.h"
#include "tls/verify/remembered.h"
#include "tls/verify/verdict.h"

#include <openssl/err.h>
#include <stdio.h>
#include <time.h>

/* OpenSSL maps no verification error to access_denied; this one becomes handshake_failure. */
static void authorise(const struct context *context, X509 *leaf, struct verdict *ret)
{
    struct error err = ERROR_INIT;

    if (context->authorise(context->authorise_arg, ret, &err) == ERROR_NONE)
        return;
    ret->accepted = false;
    ret->x509_error = X509_V_ERR_APPLICATION_VERIFICATION;
    ret->reason = (struct verdict_note){.check = "authorisation"};
    verdict_subject(leaf, ret->reason.subject, sizeof(ret->reason.subject));
    (void)snprintf(ret->reason.text, sizeof(ret->reason.text), "%.250s", err.text);
}

/* A token that was removed, or whose key is another one, takes along what its connections have left behind. */
static void forget_with_identities(struct context *context)
{
    uint64_t seen = 0;

    for (size_t i = 0; i < context->n_identities; i++)
        seen += identity_generation(context->identities[i]);
    if (seen != context->identities_seen)
        remembered_clear(context->remembered);
    context->identities_seen = seen;
}

static void reject_for_memory(struct verdict *ret)
{
    *ret = (struct verdict){.x509_error = X509_V_ERR_OUT_OF_MEM, .reason = {.check = "internal"}};
    (void)snprintf(ret->reason.text, sizeof(ret->reason.text), "out of memory");
}

static void reach(const struct connection *connection, struct chain_request *request, struct verdict *ret)
{
    const struct context *context = connection->context;
    uint64_t now_us = clock_monotonic_us();
    X509 *copy = NULL;

    if (remembered_recall(context->remembered, request, now_us, ret))
        return;
    if (connection->ticket_in_question) {
        /* libssl decodes the certificates of sessions in the default library context, whose algorithms are not ours */
        copy = adopt_certificate(request->libctx, request->leaf);
        if (copy == NULL) {
            reject_for_memory(ret);
            return;
        }
        request->leaf = copy;
    }
    chain_verify(request, ret);
    remembered_keep(context->remembered, request, now_us, ret);
    X509_free(copy);
}

void judge_peer(const struct connection *connection, X509 *leaf, STACK_OF(X509) * untrusted, struct verdict *ret)
{
    struct context *context = connection->context;
    struct chain_response responses[CHAIN_RESPONSES_MAX];
    struct chain_request request = {
        .leaf = leaf,
        .untrusted = untrusted,
        .trust = context->trust,
        .crls = context->crls,
        .responses = responses,
        .n_responses = inquiry_collect(context->inquiry, leaf, untrusted, context->trust, responses),
        .staple = connection->staple,
        .stapling = connection->stapling,
        .order = context->order,
        .spkis = (const uint8_t(*)[CHAIN_SPKI_LENGTH])context->spkis,
        .n_spkis = context->n_spkis,
        .time = (int64_t)time(NULL),
        .crl_grace = context->crl_grace,
        .depth = context->depth,
        .purpose = context->server ? CHAIN_PURPOSE_CLIENT : CHAIN_PURPOSE_SERVER,
        .revocation = context->revocation,
        .policy = context->policy,
        .hostname = connection->check_name ? connection->server_name : NULL,
        .libctx = libctx_get(context->libctx),
    };

    forget_with_identities(context);
    reach(connection, &request, ret);
    if (ret->accepted && context->authorise != NULL)
        authorise(context, leaf, ret);
    if (!ret->accepted && ret->x509_error == X509_V_OK)
        ret->x509_error = X509_V_ERR_UNSPECIFIED;
    ERR_clear_error();
}

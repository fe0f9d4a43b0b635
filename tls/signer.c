#include "tls/signer.h"

#include "base/clock.h"

#include <openssl/async.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct signer *current;

struct signer *signer_switch(struct signer *signer)
{
    struct signer *before = current;

    current = signer;
    return before;
}

bool signer_waits(const struct signer *signer)
{
    return signer->operation != NULL &&
           (signer->operation->state == SIGN_QUEUED || signer->operation->state == SIGN_STARTED);
}

void signer_cancel(struct signer *signer)
{
    signer->cancelled = true;
    keyholder_client_release(signer->operation);
    signer->operation = NULL;
}

static void operation_ended(void *arg, struct sign_operation *operation)
{
    struct signer *signer = arg;

    (void)operation;
    signer->ended(signer->arg);
}

/* Inside the job: its stack is small, so nothing large stands here. */
static bool start(struct signer *signer, const struct signer_input *input, const struct key_way *way)
{
    const struct sign_request request = {
        .key = way->number,
        .scheme = input->scheme,
        .tunnel = signer->tunnel,
        .deadline = signer->deadline,
        .message = input->message,
        .length = input->length,
        .done = operation_ended,
        .arg = signer,
    };

    signer->operation = keyholder_client_sign(way->client, &request, &signer->error);
    return signer->operation != NULL;
}

static bool collect(struct signer *signer, uint8_t *out, size_t size, size_t *ret_length)
{
    struct sign_operation *operation = signer->operation;
    bool good = false;

    signer->wait_ms = operation->wait_ms;
    signer->sign_ms = operation->sign_ms;
    if (operation->state != SIGN_DONE) {
        signer->error = operation->error;
        if (signer->error.category == ERROR_NONE)
            error_set(&signer->error, ERROR_INTERNAL, "a signature failed without a reason");
    } else if (operation->signature_length == 0 || operation->signature_length > size) {
        error_set(&signer->error, ERROR_TOKEN, "the signature has %zu bytes where at most %zu fit",
                  operation->signature_length, size);
    } else {
        memcpy(out, operation->signature, operation->signature_length);
        *ret_length = operation->signature_length;
        (void)snprintf(signer->mechanism, sizeof(signer->mechanism), "%s",
                       operation->mechanism == NULL ? "" : operation->mechanism);
        good = true;
    }
    keyholder_client_release(operation);
    signer->operation = NULL;
    return good;
}

/* Pauses the job until the operation has ended. False: given up, the handshake is over. */
static bool wait_for_it(struct signer *signer)
{
    while (signer_waits(signer)) {
        if (signer->wait != NULL ? !signer->wait(signer->arg) : ASYNC_pause_job() != 1) {
            signer_cancel(signer);
            error_set(&signer->error, ERROR_INTERNAL, "cannot wait for the signature");
            return false;
        }
    }
    return signer->operation != NULL;
}

/* Another token with the same key may do what this one could not, if there is time. */
static bool is_worth_another(const struct signer *signer)
{
    return (signer->error.category == ERROR_TOKEN || signer->error.category == ERROR_PIN) &&
           clock_monotonic_ms() < signer->deadline;
}

bool signer_sign(const struct signer_input *input, uint8_t *out, size_t size, size_t *ret_length)
{
    struct signer *signer = current;
    struct key_tried tried = {.n = 0};
    struct key_way way;
    bool good = false;

    if (signer == NULL || signer->cancelled)
        return false;
    if (signer->wait == NULL && ASYNC_get_current_job() == NULL) {
        error_set(&signer->error, ERROR_INTERNAL, "a signature was wanted outside a handshake");
        return false;
    }
    error_set(&signer->error, ERROR_TOKEN, "the keyholder of this key has ended");
    do {
        if (!key_choose(input->key, input->scheme, &tried, &way))
            return false;
        if (start(signer, input, &way)) {
            if (!wait_for_it(signer))
                return false;
            good = collect(signer, out, size, ret_length);
        }
    } while (!good && is_worth_another(signer));
    if (!good)
        return false;
    signer->error = (struct error)ERROR_INIT;
    signer->scheme = input->scheme;
    signer->has_signed = true;
    return true;
}

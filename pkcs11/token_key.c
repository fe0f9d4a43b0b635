#include "pkcs11/login.h"
#include "pkcs11/object.h"
#include "pkcs11/probe.h"
#include "pkcs11/rv.h"
#include "pkcs11/signature.h"
#include "pkcs11/token_internal.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

void token_key_free(struct token_key *key)
{
    if (key == NULL)
        return;
    for (size_t i = 0; i < key->n_chain; i++)
        X509_free(key->chain[i]);
    for (CK_ULONG i = 0; i < key->n_pattern; i++)
        free(key->pattern[i].pValue);
    EVP_PKEY_free(key->public_key);
    (void)pthread_mutex_destroy(&key->mutex);
    free(key->uri);
    free(key);
}

void token_key_info(const struct token_key *key, struct token_key_info *ret)
{
    *ret = (struct token_key_info){
        .type = key->type,
        .bits = key->bits,
        .n_schemes = key->n_schemes,
        .uri = key->uri,
        .chain = key->chain,
        .n_chain = key->n_chain,
        .sensitive = key->sensitive,
        .extractable = key->extractable,
        .never_extractable = key->never_extractable,
        .local = key->local,
        .always_authenticate = key->always_authenticate,
    };
    memcpy(ret->schemes, key->schemes, sizeof(ret->schemes));
}

/* The object's handle in this generation of sessions: found again when the token was away meanwhile. */
static result handle_of(struct token_key *key, const struct session *session, CK_OBJECT_HANDLE *ret, struct error *err)
{
    struct object_list found;
    CK_ATTRIBUTE pattern[3];
    result r;

    (void)pthread_mutex_lock(&key->mutex);
    *ret = key->handle;
    r = key->generation == session->generation ? ERROR_NONE : ERROR_TOKEN;
    (void)pthread_mutex_unlock(&key->mutex);
    if (r == ERROR_NONE)
        return r;
    memcpy(pattern, key->pattern, sizeof(pattern));
    r = object_find(session, pattern, key->n_pattern, &found, err);
    if (r != ERROR_NONE)
        return r;
    if (found.n != 1)
        return error_set(err, ERROR_TOKEN, "key %.700s: %s on the token now", key->uri,
                         found.n == 0 ? "is not" : "is there more than once");
    (void)pthread_mutex_lock(&key->mutex);
    key->handle = *ret = found.handles[0];
    key->generation = session->generation;
    (void)pthread_mutex_unlock(&key->mutex);
    return ERROR_NONE;
}

/* One signature on the way. */
struct signing {
    struct token_key *key;
    struct plan plan;
    struct plan_data data;
    struct session session;
};

static result sign_in_session(struct signing *signing, struct token_signature *ret, struct error *err)
{
    struct token_key *key = signing->key;
    const struct session *session = &signing->session;
    CK_ULONG length = sizeof(ret->bytes);
    struct plan_mechanism mechanism;
    CK_OBJECT_HANDLE object = 0;
    CK_RV rv;
    result r = handle_of(key, session, &object, err);

    if (r != ERROR_NONE)
        return r;
    plan_mechanism_init(&signing->plan, &mechanism);
    rv = MODULE_CALL(session->module, C_SignInit, session->handle, &mechanism.mechanism, object);
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "key %.700s: C_SignInit(%s)", key->uri, signing->plan.name);
    if (key->always_authenticate) {
        r = login_context(key->token, session, err);
        if (r != ERROR_NONE)
            return r;
    }
    rv = MODULE_CALL(session->module, C_Sign, session->handle, (CK_BYTE_PTR)(uintptr_t)signing->data.data,
                     signing->data.length, ret->bytes, &length);
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "key %.700s: C_Sign(%s)", key->uri, signing->plan.name);
    if (length == 0 || length > sizeof(ret->bytes))
        return error_set(err, ERROR_TOKEN, "key %.700s: C_Sign(%s) claims a signature of %lu bytes", key->uri,
                         signing->plan.name, length);
    ret->length = length;
    ret->mechanism = signing->plan.name;
    return ERROR_NONE;
}

static result sign_once(struct signing *signing, struct token_signature *ret, struct error *err)
{
    struct token *token = signing->key->token;
    result r = token_acquire(token, &signing->session, err);

    if (r != ERROR_NONE)
        return r;
    r = sign_in_session(signing, ret, err);
    /* After a failure an operation may be left active, which only closing the session ends for sure. */
    token_release(token, &signing->session, r, err);
    return r;
}

static bool plan_of(struct token_key *key, uint16_t scheme, struct plan *ret)
{
    bool found = false;

    (void)pthread_mutex_lock(&key->mutex);
    for (size_t i = 0; i < key->n_schemes && !found; i++) {
        found = key->schemes[i] == scheme;
        if (found)
            *ret = key->plans[i];
    }
    (void)pthread_mutex_unlock(&key->mutex);
    return found;
}

/* As TLS wants it, and only if it is right. */
static result finish(struct signing *signing, const struct plan_message *message, struct token_signature *ret,
                     struct error *err)
{
    struct token_key *key = signing->key;
    result r = ERROR_NONE;

    if (key->type == KEY_TYPE_EC)
        r = signature_to_der(ret, (key->bits + 7) / 8, err);
    if (r == ERROR_NONE &&
        signature_verify(key->public_key, signing->plan.scheme, message->bytes, message->length, ret) != ERROR_NONE)
        r = error_set_code(err, ERROR_TOKEN, CKR_SIGNATURE_INVALID,
                           "key %.600s: the token returned a wrong signature (%s): it does not verify with the "
                           "certificate's public key and was thrown away",
                           key->uri, signing->plan.name);
    return r;
}

/* CKR_USER_NOT_LOGGED_IN without a PIN source is not the token's fault. */
static result explain(const struct token_key *key, result r, struct error *err)
{
    if (r != ERROR_TOKEN || err->code != CKR_USER_NOT_LOGGED_IN || key->token->pin != NULL)
        return r;
    return error_set_code(err, ERROR_PIN, CKR_USER_NOT_LOGGED_IN,
                          "key %.700s: needs a login, and no PIN source is set: CKR_USER_NOT_LOGGED_IN", key->uri);
}

/* With one retry after a loss. */
static result sign_by_plan(struct signing *signing, const struct plan_message *input, struct token_signature *ret,
                           struct error *err)
{
    result r = plan_prepare(&signing->plan, input, &signing->data, err);

    if (r != ERROR_NONE)
        return r;
    r = sign_once(signing, ret, err);
    if (r != ERROR_TOKEN || !rv_is_loss(err->code))
        return r;
    *err = (struct error)ERROR_INIT;
    return sign_once(signing, ret, err);
}

/* lint: the six parameters are the contract of token.h */
result token_key_sign(struct token_key *key, uint16_t scheme, const uint8_t *message, size_t length,
                      struct token_signature *ret, struct error *err)
{
    struct plan_message input = {message, length, key->bits};
    struct signing signing = {.key = key};
    struct error local = ERROR_INIT;
    struct token_signature made;
    result r;

    if (!plan_of(key, scheme, &signing.plan))
        return error_set(err, ERROR_TOKEN, "key %.700s: the token cannot sign %s with it", key->uri,
                         mechanism_scheme_name(scheme));
    do {
        local = (struct error)ERROR_INIT;
        r = sign_by_plan(&signing, &input, &made, &local);
    } while (r == ERROR_TOKEN && rv_is_mechanism(local.code) && probe_step_down(key, &signing.plan, &signing.plan));
    if (r == ERROR_NONE)
        r = finish(&signing, &input, &made, &local);
    if (r == ERROR_NONE) {
        *ret = made;
        return ERROR_NONE;
    }
    r = explain(key, r, &local);
    if (err != NULL)
        *err = local;
    return r;
}

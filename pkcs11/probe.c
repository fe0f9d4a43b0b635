#include "pkcs11/probe.h"

#include "pkcs11/rv.h"

/* Longest wait for a second session: others may be signing with an earlier key. */
#define PROBE_WAIT_MS 5000

struct probe {
    struct token_key *key;
    const struct session *session;
    CK_SLOT_ID slot;
    CK_OBJECT_HANDLE object;
    CK_RV last; /* what the last rung that failed said */
};

static bool is_offered(struct probe *probe, const struct plan *plan)
{
    CK_MECHANISM_INFO info = {0};

    probe->last = MODULE_CALL(probe->session->module, C_GetMechanismInfo, probe->slot, plan->type, &info);
    if (probe->last == CKR_OK && (info.flags & CKF_SIGN) == 0)
        probe->last = CKR_MECHANISM_INVALID;
    return probe->last == CKR_OK;
}

bool probe_step_down(struct token_key *key, const struct plan *refused, struct plan *ret)
{
    struct session session = {0};
    struct probe probe = {.key = key, .session = &session};
    struct token_slot slot;
    struct plan next = {.scheme = refused->scheme};
    bool found = false;

    if (!token_slot(key->token, &slot))
        return false;
    session.module = slot.module;
    probe.slot = slot.id;
    for (unsigned step = refused->step + 1; !found && plan_step(refused->scheme, step, &next); step++)
        found = is_offered(&probe, &next);
    if (!found)
        return false;
    (void)pthread_mutex_lock(&key->mutex);
    for (size_t i = 0; i < key->n_schemes; i++) {
        if (key->schemes[i] == next.scheme && key->plans[i].step < next.step)
            key->plans[i] = next;
    }
    (void)pthread_mutex_unlock(&key->mutex);
    *ret = next;
    return true;
}

static CK_RV try_init(struct probe *probe, const struct plan *plan)
{
    struct session_pool *pool = probe->key->token->pool;
    struct plan_mechanism mechanism;
    struct session session;
    CK_RV rv;

    if (session_pool_limit(pool) < 2 || session_checkout(pool, PROBE_WAIT_MS, &session, NULL) != ERROR_NONE)
        return CKR_OK;
    plan_mechanism_init(plan, &mechanism);
    rv = MODULE_CALL(session.module, C_SignInit, session.handle, &mechanism.mechanism, probe->object);
    session_checkin(pool, &session, false);
    return rv;
}

static void probe_scheme(struct probe *probe, uint16_t scheme)
{
    struct token_key *key = probe->key;
    struct plan plan;

    for (unsigned step = 0; plan_step(scheme, step, &plan); step++) {
        if (!is_offered(probe, &plan))
            continue;
        probe->last = try_init(probe, &plan);
        if (rv_is_loss(probe->last))
            return;
        if (probe->last != CKR_OK)
            continue;
        key->plans[key->n_schemes] = plan;
        key->schemes[key->n_schemes++] = scheme;
        return;
    }
}

result probe_key(struct token_key *key, const struct session *session, CK_SLOT_ID slot, CK_OBJECT_HANDLE object,
                 struct error *err)
{
    struct probe probe = {.key = key, .session = session, .slot = slot, .object = object, .last = CKR_OK};

    key->n_schemes = 0;
    for (size_t i = 0; i < MECHANISM_SCHEMES; i++) {
        if (!mechanism_scheme_fits(mechanism_schemes[i], key->type))
            continue;
        probe_scheme(&probe, mechanism_schemes[i]);
        if (rv_is_loss(probe.last))
            return rv_error(err, ERROR_TOKEN, probe.last, "key %.700s: probing its mechanisms", key->uri);
    }
    if (key->n_schemes == 0)
        return rv_error(err, ERROR_TOKEN, probe.last, "key %.700s: the token offers no mechanism to sign with",
                        key->uri);
    return ERROR_NONE;
}

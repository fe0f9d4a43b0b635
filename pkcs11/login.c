#include "pkcs11/login.h"

#include "base/text.h"
#include "pkcs11/guard.h"
#include "pkcs11/rv.h"
#include "pkcs11/token_internal.h"

#include <stdio.h>
#include <string.h>

#define VERSION_TRIES 3
#define IDENTITY_MAX 256
#define WAITING_MAX 384
#define CURE_MAX 768
#define LOCK_WAIT_MS 5000 /* for a session to log out in */

/* One attempt on the way. */
struct attempt {
    struct token *token;
    const struct session *session;
    CK_USER_TYPE user;
    CK_TOKEN_INFO info;
    char label[4 * sizeof(((CK_TOKEN_INFO *)0)->label) + 1];
    char version[GUARD_VERSION_MAX];
    struct guard *guard;
    bool asks;          /* a person is asked now, and decides */
    struct secret *pin; /* NULL: the token has a PIN pad */
};

static size_t padded_length(const unsigned char *text, size_t size)
{
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\0'))
        size--;
    return size;
}

/* Serial numbers are unique for a manufacturer and model only (PKCS#11 v3.0 3.2). */
static void identity_of(const CK_TOKEN_INFO *info, char *out, size_t size)
{
    (void)snprintf(out, size, "serial=%.*s;model=%.*s;manufacturer=%.*s",
                   (int)padded_length(info->serialNumber, sizeof(info->serialNumber)), (const char *)info->serialNumber,
                   (int)padded_length(info->model, sizeof(info->model)), (const char *)info->model,
                   (int)padded_length(info->manufacturerID, sizeof(info->manufacturerID)),
                   (const char *)info->manufacturerID);
}

/* What the flags say about the tries left, for the person who is asked; NULL: nothing. */
static const char *tries_left(CK_FLAGS flags)
{
    if ((flags & CKF_USER_PIN_FINAL_TRY) != 0)
        return "This is the last try: one more wrong PIN locks the token.";
    if ((flags & CKF_USER_PIN_COUNT_LOW) != 0)
        return "A wrong PIN was entered before: few tries are left.";
    return NULL;
}

/* Before anything is asked: flags that forbid a login whatever the PIN is. */
static result check_flags(const struct attempt *attempt, struct error *err)
{
    CK_FLAGS flags = attempt->info.flags;

    if ((flags & CKF_USER_PIN_INITIALIZED) == 0)
        return error_set(err, ERROR_PIN, "token \"%s\": its user PIN has not been set yet (initialise the token)",
                         attempt->label);
    if ((flags & CKF_USER_PIN_LOCKED) != 0)
        return error_set(err, ERROR_PIN, "token \"%s\": its PIN is locked (unblock it with the SO PIN or PUK)",
                         attempt->label);
    if ((flags & CKF_USER_PIN_FINAL_TRY) != 0 && !attempt->asks)
        return error_set(err, ERROR_PIN,
                         "token \"%s\": login withheld: one more wrong PIN would lock it (log in once with another "
                         "program to reset the counter)",
                         attempt->label);
    return ERROR_NONE;
}

/* What a person does who knows that the PIN is right now; the text belongs to the caller. */
static void cure(const struct attempt *attempt, char *out, size_t size)
{
    const struct token *token = attempt->token;
    bool another = token->daemon && pin_source_takes(token->pin) && !pin_source_waits(token->pin);
    const char *first = "correct it, then";

    if (strcmp(attempt->version, "constant") != 0)
        first = "correct the file, or if it is right,";
    else if (pin_source_waits(token->pin))
        first = "to give the right one,";
    (void)snprintf(out, size, "%s run: %s%s", first, token->unlock_command,
                   another ? " (with --pin-source ask to give another PIN)" : "");
}

/* The PIN has failed before, and nothing but a person can say that it would not fail again. */
static result withhold(const struct attempt *attempt, struct error *err)
{
    const struct token *token = attempt->token;
    const char *source = pin_source_text(token->pin), *reason = guard_reason(attempt->guard);
    char advice[CURE_MAX];

    if (guard_record(attempt->guard) == GUARD_DAMAGED)
        return error_set(err, ERROR_PIN,
                         "token \"%s\": login withheld: %s, and may be of a PIN that has failed: if the PIN from %s is "
                         "right, run: %s",
                         attempt->label, reason, source, token->unlock_command);
    cure(attempt, advice, sizeof(advice));
    return error_set(err, ERROR_PIN, "token \"%s\": login withheld, because the PIN from %s failed before (%s): %s",
                     attempt->label, source, reason, advice);
}

/* What an earlier failure means for this attempt. */
static result check_record(const struct attempt *attempt, struct error *err)
{
    enum guard_record record = guard_record(attempt->guard);
    bool changed = record == GUARD_FAILED && strcmp(guard_version(attempt->guard), attempt->version) != 0;

    if (attempt->asks || changed)
        return ERROR_NONE;
    if (record == GUARD_FAILED || record == GUARD_DAMAGED)
        return withhold(attempt, err);
    if ((attempt->info.flags & CKF_USER_PIN_COUNT_LOW) != 0 && record == GUARD_NONE)
        return error_set(err, ERROR_PIN,
                         "token \"%s\": login withheld: a wrong PIN was entered elsewhere and the token's try counter "
                         "is low (log in once with another program, or run: %s)",
                         attempt->label, attempt->token->unlock_command);
    return ERROR_NONE;
}

/* Say that a person is waited for, or (NULL) not any more. */
static void tell_waiting(const struct token *token, const char *text)
{
    if (token->waiting != NULL)
        token->waiting(token->waiting_arg, text);
}

/* A person who does not want to, or is not there, is not asked again by the next look at the token. */
static void remember_refusal(struct token *token, struct error *err)
{
    size_t length = strlen(err->text);

    if (!pin_source_is_interactive(token->pin))
        return;
    if (token->daemon)
        (void)snprintf(err->text + length, sizeof(err->text) - length, " (to be asked again, run: %s)",
                       token->unlock_command);
    token->login_refused = true;
    token->refusal = *err;
}

static result get_pin(struct attempt *attempt, struct error *err)
{
    struct token *token = attempt->token;
    const char *reason = guard_reason(attempt->guard); /* also of a record that a person has cleared meanwhile */
    const char *last = reason[0] == '\0' || guard_record(attempt->guard) == GUARD_DAMAGED ? NULL : reason;
    struct pin_prompt prompt = {.token = attempt->label,
                                .identity = token->identities,
                                .error = last,
                                .tries = tries_left(attempt->info.flags),
                                .timeout_ms = token->pin_timeout_ms};
    char text[WAITING_MAX];
    result r;

    if (!attempt->asks)
        return pin_source_get(token->pin, &prompt, &attempt->pin, err);
    (void)snprintf(text, sizeof(text), "waiting for the PIN of token \"%s\" to be entered (%s)", attempt->label,
                   pin_source_text(token->pin));
    tell_waiting(token, text);
    r = pin_source_get(token->pin, &prompt, &attempt->pin, err);
    tell_waiting(token, NULL);
    if (r != ERROR_NONE)
        remember_refusal(token, err);
    return r;
}

/* A file that is replaced while it is read must not be recorded under the version of the other one. */
static result read_pin(struct attempt *attempt, struct error *err)
{
    struct pin_source *source = attempt->token->pin;
    char after[GUARD_VERSION_MAX];

    for (int i = 0; i < VERSION_TRIES; i++) {
        result r = get_pin(attempt, err);

        if (r == ERROR_NONE)
            r = pin_source_version(source, after, sizeof(after), err);
        if (r != ERROR_NONE || strcmp(after, attempt->version) == 0)
            return r;
        secret_free(attempt->pin);
        attempt->pin = NULL;
        memcpy(attempt->version, after, sizeof(after));
        r = check_record(attempt, err);
        if (r != ERROR_NONE)
            return r;
    }
    return error_set(err, ERROR_PIN, "PIN source %s: keeps changing while it is read", pin_source_text(source));
}

/*
 * The token was there when C_Login began and gone when it ended (PKCS#11 v3.0 5.1.4): it may have counted a try. The
 * other losses are noticed before the PIN is looked at.
 */
static bool may_be_judged(CK_RV rv)
{
    return rv == CKR_DEVICE_REMOVED || rv == CKR_SESSION_CLOSED;
}

/* The token has not looked at the PIN. */
static bool not_judged(CK_RV rv)
{
    switch (rv) {
    case CKR_OPERATION_NOT_INITIALIZED:
    case CKR_USER_TYPE_INVALID:
    case CKR_USER_ANOTHER_ALREADY_LOGGED_IN:
    case CKR_USER_TOO_MANY_TYPES:
    case CKR_SESSION_READ_ONLY_EXISTS:
    case CKR_HOST_MEMORY:
        return true;
    default:
        return rv_is_loss(rv) && !may_be_judged(rv);
    }
}

/* This PIN was right when it was last tried, so that trying it once more costs nothing: but once only. */
static bool is_known_good(struct attempt *attempt)
{
    struct token *token = attempt->token;
    bool good = token->accepted && strcmp(token->accepted_version, attempt->version) == 0;

    token->accepted = false;
    return good;
}

static const char *explain(CK_RV rv)
{
    switch (rv) {
    case CKR_PIN_INCORRECT:
        return "the PIN is wrong";
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
        return "the PIN has characters or a length that the token does not take";
    case CKR_PIN_EXPIRED:
        return "the PIN has expired and must be changed";
    case CKR_PIN_LOCKED:
        return "the PIN is locked now (unblock it with the SO PIN or PUK)";
    case CKR_USER_PIN_NOT_INITIALIZED:
        return "the user PIN has not been set yet";
    case CKR_FUNCTION_CANCELED:
    case CKR_FUNCTION_REJECTED:
        return "the PIN entry was cancelled";
    case CKR_DEVICE_REMOVED:
    case CKR_SESSION_CLOSED:
        return "the token went away while it may have looked at the PIN";
    default:
        return "the login failed";
    }
}

static result accept(struct attempt *attempt, struct error *err)
{
    struct token *token = attempt->token;

    token->accepted = true;
    memcpy(token->accepted_version, attempt->version, sizeof(token->accepted_version));
    atomic_store(&token->idle, false);
    return guard_result(attempt->guard, true, "", err);
}

/* Turn C_Login's result into the record and an error. */
static result judge(struct attempt *attempt, CK_RV rv, struct error *err)
{
    char reason[128], advice[CURE_MAX] = "";

    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return accept(attempt, err);
    if (not_judged(rv) || (may_be_judged(rv) && is_known_good(attempt))) {
        guard_restore(attempt->guard);
        return rv_error(err, ERROR_TOKEN, rv, "token \"%s\": C_Login", attempt->label);
    }
    (void)snprintf(reason, sizeof(reason), "%s: %s", explain(rv), rv_name(rv));
    (void)!guard_result(attempt->guard, false, reason, NULL);
    pin_source_refused(attempt->token->pin);
    if (!pin_source_is_interactive(attempt->token->pin))
        cure(attempt, advice, sizeof(advice));
    (void)error_set_code(err, ERROR_PIN, rv, "token \"%s\", PIN from %s: %s (0x%lx)%s%s", attempt->label,
                         attempt->pin == NULL ? "its PIN pad" : pin_source_text(attempt->token->pin), reason, rv,
                         advice[0] == '\0' ? "" : ": ", advice);
    attempt->token->accepted = false;
    remember_refusal(attempt->token, err);
    return ERROR_PIN;
}

/*
 * A wrong PIN sets one of these flags at once (PKCS#11 v3.0 3.2). SoftHSM keeps to that: when it had none of them
 * before C_Login and has none after it, it has counted no try. Of other tokens nobody knows.
 */
static bool counted_no_try(const struct attempt *attempt)
{
    static const char maker[] = "SoftHSM";
    const CK_FLAGS low = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    struct module *module = attempt->session->module;
    CK_SESSION_INFO session = {0};
    CK_TOKEN_INFO after = {0};

    if (memcmp(attempt->info.manufacturerID, maker, sizeof(maker) - 1) != 0)
        return false;
    if (MODULE_CALL(module, C_GetSessionInfo, attempt->session->handle, &session) != CKR_OK ||
        MODULE_CALL(module, C_GetTokenInfo, session.slotID, &after) != CKR_OK)
        return false;
    return ((attempt->info.flags | after.flags) & low) == 0;
}

static result call_login(struct attempt *attempt, struct error *err)
{
    const struct session *session = attempt->session;
    CK_UTF8CHAR *pin = NULL;
    CK_ULONG length = 0;
    CK_RV rv;
    result r = guard_trying(attempt->guard, attempt->version, err);

    if (r != ERROR_NONE)
        return r;
    if (attempt->pin != NULL) {
        pin = (CK_UTF8CHAR *)(uintptr_t)secret_bytes(attempt->pin);
        length = secret_length(attempt->pin);
    }
    rv = MODULE_CALL(session->module, C_Login, session->handle, attempt->user, pin, length);
    /* SoftHSM answers so when two processes log in at the same instant: no reason to withhold a good PIN for ever. */
    if (rv == CKR_GENERAL_ERROR && counted_no_try(attempt))
        rv = MODULE_CALL(session->module, C_Login, session->handle, attempt->user, pin, length);
    return judge(attempt, rv, err);
}

/* The token has a pad of its own, so C_Login is given no PIN and returns when the person has typed it there. */
static result login_at_pad(struct attempt *attempt, struct error *err)
{
    const char *tries = tries_left(attempt->info.flags);
    char text[WAITING_MAX];
    result r;

    (void)snprintf(text, sizeof(text), "enter the PIN on the pad of the reader of token \"%s\"%s%s", attempt->label,
                   tries == NULL ? "" : ". ", tries == NULL ? "" : tries);
    tell_waiting(attempt->token, text);
    r = call_login(attempt, err);
    tell_waiting(attempt->token, NULL);
    return r;
}

/* Under the guard's lock. */
static result guarded(struct attempt *attempt, struct error *err)
{
    struct pin_source *source = attempt->token->pin;
    bool pad = (attempt->info.flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0;
    result r = pin_source_version(source, attempt->version, sizeof(attempt->version), err);

    if (r == ERROR_NONE && pin_source_is_pad(source) && !pad)
        r = error_set(err, ERROR_PIN,
                      "token \"%s\": its reader has no PIN pad that the module knows of (no protected authentication "
                      "path): use another pin-source",
                      attempt->label);
    if (r == ERROR_NONE)
        r = check_record(attempt, err);
    if (r == ERROR_NONE && pad)
        r = login_at_pad(attempt, err);
    else if (r == ERROR_NONE && pin_source_lacks(source))
        r = error_set(err, ERROR_PIN, "token \"%s\": %swaiting for its PIN: run: %s%s", attempt->label,
                      atomic_load(&attempt->token->idle) ? "logged out because it was idle, " : "",
                      attempt->token->unlock_command, pin_source_waits(source) ? "" : " --pin-source ask");
    else if (r == ERROR_NONE) {
        r = read_pin(attempt, err);
        if (r == ERROR_NONE)
            r = call_login(attempt, err);
    }
    secret_free(attempt->pin);
    return r;
}

/* The flags of this moment: another process may have failed while we waited for the lock. */
static result read_flags(struct attempt *attempt, const struct token_slot *slot, struct error *err)
{
    const struct session *session = attempt->session;
    CK_RV rv = MODULE_CALL(session->module, C_GetTokenInfo, slot->id, &attempt->info);

    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "C_GetTokenInfo");
    if (memcmp(attempt->info.serialNumber, slot->info.serialNumber, sizeof(attempt->info.serialNumber)) != 0)
        return rv_error(err, ERROR_TOKEN, CKR_TOKEN_NOT_PRESENT, "the slot holds another token now");
    (void)text_escape(attempt->info.label, padded_length(attempt->info.label, sizeof(attempt->info.label)),
                      attempt->label, sizeof(attempt->label));
    return ERROR_NONE;
}

/* `err` is not NULL. */
static result login(struct token *token, const struct session *session, CK_USER_TYPE user, struct error *err)
{
    struct attempt attempt = {.token = token, .session = session, .user = user, .asks = pin_source_asks(token->pin)};
    struct token_slot slot;
    char identity[IDENTITY_MAX];
    struct guard_key key = {token->state_directory, identity, pin_source_text(token->pin)};
    result r;

    if (!token_slot(token, &slot))
        return rv_error(err, ERROR_TOKEN, CKR_TOKEN_NOT_PRESENT, "the token is absent");
    if (token->login_refused) {
        *err = token->refusal;
        return ERROR_PIN;
    }
    identity_of(&slot.info, identity, sizeof(identity));
    r = guard_begin(&key, &attempt.guard, err);
    if (r != ERROR_NONE)
        return r;
    r = read_flags(&attempt, &slot, err);
    if (r == ERROR_NONE)
        r = check_flags(&attempt, err);
    if (r == ERROR_NONE)
        r = guarded(&attempt, err);
    guard_end(attempt.guard);
    return r;
}

static result check_held(struct token *token, struct error *err)
{
    if (!atomic_load(&token->held))
        return ERROR_NONE;
    return error_set(err, ERROR_PIN, "locked by a person (to end that: %s)", token->unlock_command);
}

static bool session_is_user(const struct session *session, CK_RV *ret_rv)
{
    CK_SESSION_INFO info = {0};

    *ret_rv = MODULE_CALL(session->module, C_GetSessionInfo, session->handle, &info);
    return *ret_rv == CKR_OK && (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
}

static result login_locked(struct token *token, const struct session *session, struct error *err)
{
    struct token_slot slot;
    CK_RV rv;
    result r = check_held(token, err);

    if (r != ERROR_NONE || session_pool_logged_in(token->pool, session->generation))
        return r;
    if (!token_slot(token, &slot) || (slot.info.flags & CKF_LOGIN_REQUIRED) == 0)
        return ERROR_NONE;
    if (session_is_user(session, &rv)) {
        session_pool_set_logged_in(token->pool, session->generation, true);
        return ERROR_NONE;
    }
    if (rv_is_loss(rv))
        return rv_error(err, ERROR_TOKEN, rv, "C_GetSessionInfo");
    r = login(token, session, CKU_USER, err);
    if (r == ERROR_PIN && !pin_source_waits(token->pin))
        atomic_store(&token->idle, false); /* not a matter of waiting for a signature any more */
    if (r == ERROR_NONE)
        session_pool_set_logged_in(token->pool, session->generation, true);
    return r;
}

result login_user(struct token *token, const struct session *session, struct error *err)
{
    result r = check_held(token, err);

    /* Looked at first without the mutex, which another thread's PIN entry may hold for minutes. */
    if (r != ERROR_NONE || token->pin == NULL || session_pool_logged_in(token->pool, session->generation))
        return r;
    (void)pthread_mutex_lock(&token->login_mutex);
    r = login_locked(token, session, err);
    (void)pthread_mutex_unlock(&token->login_mutex);
    return r;
}

result login_context(struct token *token, const struct session *session, struct error *err)
{
    result r;

    if (token->pin == NULL)
        return error_set(err, ERROR_PIN, "the key wants the PIN for each signature, and no PIN source is set");
    (void)pthread_mutex_lock(&token->login_mutex);
    r = check_held(token, err);
    if (r == ERROR_NONE)
        r = login(token, session, CKU_CONTEXT_SPECIFIC, err);
    (void)pthread_mutex_unlock(&token->login_mutex);
    return r;
}

/* One more attempt, whatever the record says. With the login mutex. */
static result allow_attempt(struct token *token, struct error *err)
{
    struct token_slot slot;
    char identity[IDENTITY_MAX];
    struct guard_key key = {token->state_directory, identity, pin_source_text(token->pin)};
    result r;

    if (!token_slot(token, &slot))
        return error_set(err, ERROR_TOKEN, "the token is absent");
    identity_of(&slot.info, identity, sizeof(identity));
    r = guard_clear(&key, err);
    token->login_refused = r == ERROR_NONE ? false : token->login_refused;
    return r;
}

result login_clear(struct token *token, struct error *err)
{
    result r = ERROR_NONE;

    atomic_store(&token->held, false);
    if (token->pin == NULL)
        return ERROR_NONE;
    (void)pthread_mutex_lock(&token->login_mutex);
    atomic_store(&token->idle, false);
    /* who is logged in needs no further attempt, and a record would allow one that nobody meant */
    if (!session_pool_logged_in(token->pool, session_pool_generation(token->pool)))
        r = allow_attempt(token, err);
    (void)pthread_mutex_unlock(&token->login_mutex);
    return r;
}

static result give(struct token *token, struct secret *pin, struct error *err)
{
    result r;

    if (token->pin == NULL || !pin_source_takes(token->pin))
        return error_set(err, ERROR_CONFIG, "the PIN comes from %s, not from tokentls unlock: correct it there",
                         token->pin == NULL ? "nowhere (no pin-source is configured)" : pin_source_text(token->pin));
    if (session_pool_logged_in(token->pool, session_pool_generation(token->pool)))
        return error_set(err, ERROR_CONFIG,
                         "is logged in and needs no PIN (to have it take another one: tokentls lock, "
                         "then unlock)");
    r = allow_attempt(token, err);
    if (r != ERROR_NONE)
        return r;
    pin_source_give(token->pin, pin);
    token->accepted = false;
    atomic_store(&token->idle, false);
    atomic_store(&token->held, false);
    return ERROR_NONE;
}

result login_give(struct token *token, struct secret *pin, struct error *err)
{
    result r;

    (void)pthread_mutex_lock(&token->login_mutex);
    r = give(token, pin, err);
    (void)pthread_mutex_unlock(&token->login_mutex);
    if (r != ERROR_NONE)
        secret_free(pin);
    return r;
}

/* C_Logout makes handles of private objects invalid (PKCS#11 v3.0 5.6.9), so a new generation of sessions begins. */
static result log_out(struct token *token, struct error *err)
{
    unsigned long generation = session_pool_generation(token->pool);
    struct session session;
    CK_RV rv;
    result r;

    if (!session_pool_logged_in(token->pool, generation))
        return ERROR_NONE;
    r = session_checkout(token->pool, LOCK_WAIT_MS, &session, err);
    if (r != ERROR_NONE) {
        (void)session_pool_lost(token->pool, generation, false); /* closing all of them logs out too */
        return r;
    }
    rv = MODULE_CALL(session.module, C_Logout, session.handle);
    (void)session_pool_lost(token->pool, session.generation, false);
    session_checkin(token->pool, &session, false);
    if (rv == CKR_OK || rv == CKR_USER_NOT_LOGGED_IN || rv_is_loss(rv))
        return ERROR_NONE;
    return rv_error(err, ERROR_TOKEN, rv, "C_Logout");
}

result login_lock(struct token *token, struct error *err)
{
    result r;

    atomic_store(&token->held, true);
    (void)pthread_mutex_lock(&token->login_mutex);
    r = log_out(token, err);
    if (token->pin != NULL)
        pin_source_forget(token->pin);
    token->accepted = false;
    (void)pthread_mutex_unlock(&token->login_mutex);
    return r;
}

bool login_idle(struct token *token)
{
    bool logged_out = false;

    (void)pthread_mutex_lock(&token->login_mutex);
    if (token->pin != NULL && session_pool_logged_in(token->pool, session_pool_generation(token->pool))) {
        atomic_store(&token->idle, true);
        logged_out = log_out(token, NULL) == ERROR_NONE;
        pin_source_forget(token->pin);
    }
    (void)pthread_mutex_unlock(&token->login_mutex);
    return logged_out;
}

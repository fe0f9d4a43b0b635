#include "pkcs11/initialise.h"

#include "base/secret.h"
#include "base/text.h"
#include "pkcs11/guard.h"
#include "pkcs11/listing.h"
#include "pkcs11/module.h"
#include "pkcs11/pin.h"
#include "pkcs11/rv.h"
#include "pkcs11/slot.h"
#include "pkcs11/uri.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_BYTES sizeof(((CK_TOKEN_INFO *)0)->label)
#define IDENTITY_MAX 256

/* One initialisation on the way. */
struct initialisation {
    const struct initialise_request *request;
    struct module *module;
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info;
    unsigned char label[LABEL_BYTES]; /* padded with blanks */
    struct secret *so_pin, *pin;      /* NULL: the token has a PIN pad */
    struct guard *guard;
    char version[GUARD_VERSION_MAX];
    bool done; /* C_InitToken has succeeded */
};

/* What a look at all slots has found. */
struct found {
    size_t n;
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info;
    struct listing others; /* initialised tokens */
};

typedef bool wanted_fn(const CK_TOKEN_INFO *info, const unsigned char *label);

static bool is_blank(const CK_TOKEN_INFO *info, const unsigned char *label)
{
    (void)label;
    return (info->flags & CKF_TOKEN_INITIALIZED) == 0;
}

static bool has_label(const CK_TOKEN_INFO *info, const unsigned char *label)
{
    return (info->flags & CKF_TOKEN_INITIALIZED) != 0 && memcmp(info->label, label, LABEL_BYTES) == 0;
}

static void list_token(struct listing *listing, const CK_TOKEN_INFO *info)
{
    struct uri_object object = {.token = info, .class = (CK_OBJECT_CLASS)-1};
    char *uri = uri_format(&object);

    listing_add(listing, uri);
    free(uri);
}

static result look(struct initialisation *work, wanted_fn *wanted, const unsigned char *label, struct found *ret,
                   struct error *err)
{
    CK_SLOT_ID slots[SLOT_MAX];
    CK_ULONG n = 0;
    CK_RV rv = slot_list(work->module, slots, &n);

    *ret = (struct found){.n = 0};
    if (rv != CKR_OK)
        return rv_error(err, ERROR_TOKEN, rv, "module %s: C_GetSlotList", module_name(work->module));
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info = {0};

        /* a broken reader must not hide the others */
        if (MODULE_CALL(work->module, C_GetTokenInfo, slots[i], &info) != CKR_OK)
            continue;
        if ((info.flags & CKF_TOKEN_INITIALIZED) != 0)
            list_token(&ret->others, &info);
        if (!wanted(&info, label))
            continue;
        ret->slot = slots[i];
        ret->info = info;
        ret->n++;
    }
    return ERROR_NONE;
}

static result pad_label(const char *label, unsigned char *out, struct error *err)
{
    size_t length = strlen(label);

    if (length == 0 || length > LABEL_BYTES)
        return error_set(err, ERROR_CONFIG, "a token's label has 1 to %zu bytes", LABEL_BYTES);
    for (size_t i = 0; i < LABEL_BYTES; i++)
        out[i] = i < length ? (unsigned char)label[i] : ' ';
    return ERROR_NONE;
}

static result choose_blank(struct initialisation *work, struct error *err)
{
    struct found found;
    result r = look(work, is_blank, NULL, &found, err);

    if (r != ERROR_NONE)
        return r;
    if (found.n == 0)
        return error_set(err, ERROR_TOKEN,
                         "the module shows no blank token; initialised ones: %s (--insecure-erase LABEL destroys what "
                         "is on one)",
                         listing_text(&found.others));
    if (found.n > 1)
        return error_set(err, ERROR_TOKEN, "the module shows %zu blank tokens: leave one in", found.n);
    work->slot = found.slot;
    work->info = found.info;
    return ERROR_NONE;
}

static result choose_used(struct initialisation *work, struct error *err)
{
    unsigned char label[LABEL_BYTES];
    struct found found;
    result r = pad_label(work->request->erase, label, err);

    if (r == ERROR_NONE)
        r = look(work, has_label, label, &found, err);
    if (r != ERROR_NONE)
        return r;
    if (found.n != 1)
        return error_set(err, ERROR_TOKEN, "%s token has the label that --insecure-erase names; tokens present: %s",
                         found.n == 0 ? "no" : "more than one", listing_text(&found.others));
    work->slot = found.slot;
    work->info = found.info;
    return ERROR_NONE;
}

static result choose(struct initialisation *work, struct error *err)
{
    struct found same;
    result r = pad_label(work->request->label, work->label, err);

    if (r == ERROR_NONE)
        r = work->request->erase != NULL ? choose_used(work, err) : choose_blank(work, err);
    if (r == ERROR_NONE)
        r = look(work, has_label, work->label, &same, err);
    if (r != ERROR_NONE)
        return r;
    if (same.n > 1 || (same.n == 1 && same.slot != work->slot))
        return error_set(err, ERROR_CONFIG, "another token has this label already: %.600s", listing_text(&same.others));
    if ((work->info.flags & CKF_WRITE_PROTECTED) != 0)
        return error_set(err, ERROR_TOKEN, "the token is write-protected");
    return ERROR_NONE;
}

static bool is_equal(const struct secret *a, const struct secret *b)
{
    return secret_length(a) == secret_length(b) &&
           CRYPTO_memcmp(secret_bytes(a), secret_bytes(b), secret_length(a)) == 0;
}

/* `what`: for the prompt. A PIN that a person makes up is typed twice: a slip would lock him out of the new token. */
static result read_pin(struct initialisation *work, struct pin_source *source, const char *what, struct secret **ret,
                       struct error *err)
{
    char label[4 * LABEL_BYTES + 1];
    /* a prompt has one line that is shown everywhere: that for what happened before */
    struct pin_prompt prompt = {
        .token = text_escape(work->request->label, strlen(work->request->label), label, sizeof(label)), .error = what};
    char again_text[64];
    struct secret *pin = NULL, *again = NULL;
    result r = pin_source_get(source, &prompt, &pin, err);

    if (r == ERROR_NONE && pin_source_is_interactive(source)) {
        pin_source_forget(source); /* or it would not be asked for again */
        (void)snprintf(again_text, sizeof(again_text), "%s, once more", what);
        prompt.error = again_text;
        r = pin_source_get(source, &prompt, &again, err);
        if (r == ERROR_NONE && !is_equal(pin, again))
            r = error_set(err, ERROR_PIN, "the two entries of the %s differ: nothing was done", what);
    }
    secret_free(again);
    if (r == ERROR_NONE && (secret_length(pin) < work->info.ulMinPinLen || secret_length(pin) > work->info.ulMaxPinLen))
        r = error_set(err, ERROR_PIN, "the token takes PINs of %lu to %lu bytes; the %s from %s has another length",
                      work->info.ulMinPinLen, work->info.ulMaxPinLen, what, pin_source_text(source));
    if (r == ERROR_NONE)
        *ret = pin;
    else
        secret_free(pin);
    return r;
}

static result read_pins(struct initialisation *work, struct error *err)
{
    const struct initialise_request *request = work->request;
    result r = ERROR_NONE;

    if ((work->info.flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0)
        return ERROR_NONE;
    if (pin_source_is_pad(request->so_pin) || pin_source_is_pad(request->pin))
        return error_set(err, ERROR_CONFIG, "the token's reader has no PIN pad");
    r = read_pin(work, request->so_pin, "SO PIN", &work->so_pin, err);
    return r == ERROR_NONE ? read_pin(work, request->pin, "user PIN", &work->pin, err) : r;
}

static size_t padded_length(const unsigned char *text, size_t size)
{
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\0'))
        size--;
    return size;
}

/* As the user PIN's identity, with a mark: the two have try counters of their own. */
static void identify(const CK_TOKEN_INFO *info, char *out, size_t size)
{
    (void)snprintf(out, size, "security officer;serial=%.*s;model=%.*s;manufacturer=%.*s",
                   (int)padded_length(info->serialNumber, sizeof(info->serialNumber)), (const char *)info->serialNumber,
                   (int)padded_length(info->model, sizeof(info->model)), (const char *)info->model,
                   (int)padded_length(info->manufacturerID, sizeof(info->manufacturerID)),
                   (const char *)info->manufacturerID);
}

/* May the SO PIN be tried? */
static result check_guard(struct initialisation *work, struct error *err)
{
    struct pin_source *source = work->request->so_pin;
    enum guard_record record = guard_record(work->guard);
    /* a blank token has no SO PIN, whatever its flags say: SoftHSM's is "locked" */
    CK_FLAGS flags = (work->info.flags & CKF_TOKEN_INITIALIZED) != 0 ? work->info.flags : 0;
    result r = pin_source_version(source, work->version, sizeof(work->version), err);

    if (r != ERROR_NONE)
        return r;
    if ((flags & CKF_SO_PIN_LOCKED) != 0)
        return error_set(err, ERROR_PIN, "the token's SO PIN is locked");
    if ((flags & CKF_SO_PIN_FINAL_TRY) != 0)
        return error_set(err, ERROR_PIN, "SO PIN withheld: one more wrong one would lock the token for good");
    if ((record == GUARD_DAMAGED ||
         (record == GUARD_FAILED && strcmp(guard_version(work->guard), work->version) == 0)) &&
        !pin_source_is_interactive(source))
        return error_set(err, ERROR_PIN,
                         "SO PIN withheld, because that from %s failed before (%s): correct it, then run: %s",
                         pin_source_text(source), guard_reason(work->guard), work->request->unlock_command);
    if ((flags & CKF_SO_PIN_COUNT_LOW) != 0 && record == GUARD_NONE && !pin_source_is_interactive(source))
        return error_set(
            err, ERROR_PIN,
            "SO PIN withheld: a wrong one was entered elsewhere and the try counter is low (--so-pin-source "
            "ask goes on)");
    return ERROR_NONE;
}

static CK_UTF8CHAR *bytes_of(const struct secret *pin)
{
    return pin == NULL ? NULL : (CK_UTF8CHAR *)(uintptr_t)secret_bytes(pin);
}

static CK_ULONG length_of(const struct secret *pin)
{
    return pin == NULL ? 0 : secret_length(pin);
}

/* A token may have another slot number after its initialisation. */
static result find_again(struct initialisation *work, struct error *err)
{
    struct found found;
    result r = look(work, has_label, work->label, &found, err);

    if (r == ERROR_NONE && found.n != 1)
        r = error_set(err, ERROR_TOKEN, "the new token is not there");
    if (r == ERROR_NONE) {
        work->slot = found.slot;
        work->info = found.info;
    }
    return r;
}

/* RV of the call that judged the SO PIN, or of what failed beside it; *ret_what names the call. */
static CK_RV call(struct initialisation *work, const char **ret_what, struct error *err)
{
    CK_SESSION_HANDLE session = 0;
    CK_RV rv;

    *ret_what = "C_InitToken";
    rv = MODULE_CALL(work->module, C_InitToken, work->slot, bytes_of(work->so_pin), length_of(work->so_pin),
                     work->label);
    if (rv != CKR_OK)
        return rv;
    work->done = true;
    *ret_what = "C_GetSlotList";
    if (find_again(work, err) != ERROR_NONE)
        return CKR_TOKEN_NOT_PRESENT;
    *ret_what = "C_OpenSession";
    rv =
        MODULE_CALL(work->module, C_OpenSession, work->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (rv != CKR_OK)
        return rv;
    *ret_what = "C_Login(CKU_SO)";
    rv = MODULE_CALL(work->module, C_Login, session, CKU_SO, bytes_of(work->so_pin), length_of(work->so_pin));
    if (rv == CKR_OK) {
        *ret_what = "C_InitPIN";
        rv = MODULE_CALL(work->module, C_InitPIN, session, bytes_of(work->pin), length_of(work->pin));
        (void)MODULE_CALL(work->module, C_Logout, session);
    }
    (void)MODULE_CALL(work->module, C_CloseSession, session);
    return rv;
}

static bool judges_pin(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED || rv == CKR_PIN_INVALID ||
           rv == CKR_PIN_LEN_RANGE;
}

/* Under the guard: the SO PIN is tried once. */
static result guarded(struct initialisation *work, struct error *err)
{
    const char *what = "";
    char reason[128];
    CK_RV rv;
    result r = guard_trying(work->guard, work->version, err);

    if (r != ERROR_NONE)
        return r;
    rv = call(work, &what, err);
    if (rv == CKR_OK || (work->done && strcmp(what, "C_Login(CKU_SO)") != 0))
        r = guard_result(work->guard, true, "", rv == CKR_OK ? err : NULL);
    else if (judges_pin(rv)) {
        (void)snprintf(reason, sizeof(reason), "%s", rv_name(rv));
        (void)!guard_result(work->guard, false, reason, NULL);
    } else {
        guard_restore(work->guard);
    }
    if (rv == CKR_OK)
        return r;
    if (judges_pin(rv))
        (void)rv_error(err, ERROR_PIN, rv, "the token refuses the %s: %s",
                       strcmp(what, "C_InitPIN") == 0 ? "user PIN" : "SO PIN (it was tried once)", what);
    else
        (void)rv_error(err, ERROR_TOKEN, rv, "%s", what);
    if (work->done)
        error_prefix(err, "the token is initialised, but has no user PIN yet");
    return err->category;
}

static result run(struct initialisation *work, struct error *err)
{
    char identity[IDENTITY_MAX];
    struct guard_key key = {work->request->state_directory, identity, pin_source_text(work->request->so_pin)};
    result r = choose(work, err);

    if (r != ERROR_NONE)
        return r;
    identify(&work->info, identity, sizeof(identity));
    r = guard_begin(&key, &work->guard, err);
    if (r != ERROR_NONE)
        return r;
    r = check_guard(work, err);
    if (r == ERROR_NONE)
        r = read_pins(work, err);
    if (r == ERROR_NONE)
        r = guarded(work, err);
    guard_end(work->guard);
    return r;
}

result initialise_token(const struct initialise_request *request, struct initialise_outcome *ret, struct error *err)
{
    struct initialisation work = {.request = request};
    struct error local = ERROR_INIT;
    struct listing uri = {0};
    result r = module_load(request->module, &work.module, &local);

    if (r == ERROR_NONE)
        r = run(&work, &local);
    secret_free(work.so_pin);
    secret_free(work.pin);
    module_release(work.module);
    if (r != ERROR_NONE) {
        if (err != NULL)
            *err = local;
        return r;
    }
    list_token(&uri, &work.info);
    (void)snprintf(ret->uri, sizeof(ret->uri), "%s", listing_text(&uri));
    return ERROR_NONE;
}

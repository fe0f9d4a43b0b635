#include "pkcs11/ask_password.h"

#include "pkcs11/helper.h"

#include <stdio.h>

#define TEXT_MAX 1024

/* Beyond the program's own time-out, so that its word is heard. */
#define GRACE_MS 1000

result ask_password_run(const char *program, const struct pin_prompt *prompt, struct secret *into, struct error *err)
{
    uint64_t timeout_ms = prompt->timeout_ms == 0 ? PIN_PROMPT_TIMEOUT_MS : prompt->timeout_ms;
    char timeout[48], what[TEXT_MAX / 2], text[TEXT_MAX];
    const char *const arguments[] = {program, "--no-tty", "--icon=dialog-password", "--id=tokentls:pin", timeout, "--",
                                     text,    NULL};
    struct helper *helper = NULL;
    bool late = false, ended_well;
    result r;

    (void)snprintf(timeout, sizeof(timeout), "--timeout=%llu", (unsigned long long)(timeout_ms + 999) / 1000);
    pin_prompt_text(prompt, what, sizeof(what));
    (void)snprintf(text, sizeof(text), "%s%s%s%s%s:", prompt->error == NULL ? "" : prompt->error,
                   prompt->error == NULL ? "" : " - ", prompt->tries == NULL ? "" : prompt->tries,
                   prompt->tries == NULL ? "" : " - ", what);
    r = helper_start(arguments, timeout_ms + GRACE_MS, &helper, err);
    if (r != ERROR_NONE)
        return r;
    r = secret_read(into, helper_fd(helper), err);
    ended_well = helper_end(helper, &late);
    if (r == ERROR_NONE && ended_well && secret_length(into) > 0)
        return ERROR_NONE;
    secret_clear(into);
    if (late)
        return error_set(err, ERROR_PIN, "no PIN given: nobody has answered within %llu s",
                         (unsigned long long)timeout_ms / 1000);
    if (r != ERROR_NONE)
        return ERROR_PIN;
    return error_set(err, ERROR_PIN, "no PIN given: %s was cancelled, timed out or failed", program);
}

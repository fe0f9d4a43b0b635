#include "base/error.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void append_cut_mark(struct error *err, int wanted)
{
    if (wanted >= (int)sizeof(err->text))
        memcpy(err->text + sizeof(err->text) - 4, "...", 4);
}

static void set_text(struct error *err, enum error_category category, unsigned long code, const char *text)
{
    if (err == NULL)
        return;
    err->category = category;
    err->code = code;
    append_cut_mark(err, snprintf(err->text, sizeof(err->text), "%s", text));
}

/* Formats into a buffer of its own first: an argument may be the text of `err` itself. */
#define FORMAT_TEXT(buf, fmt)                                                                                          \
    do {                                                                                                               \
        va_list args;                                                                                                  \
        va_start(args, fmt);                                                                                           \
        (void)vsnprintf(buf, sizeof(buf), fmt, args);                                                                  \
        va_end(args);                                                                                                  \
    } while (0)

result error_set(struct error *err, enum error_category category, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX + 4];

    FORMAT_TEXT(text, fmt);
    set_text(err, category, 0, text);
    return category;
}

result error_set_code(struct error *err, enum error_category category, unsigned long code, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX + 4];

    FORMAT_TEXT(text, fmt);
    set_text(err, category, code, text);
    return category;
}

result error_set_errno(struct error *err, int errnum, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    char full[ERROR_TEXT_MAX + 128];
    char reason[96] = "unknown error";

    FORMAT_TEXT(text, fmt);
    (void)snprintf(full, sizeof(full), "%s: %s", text, strerror_r(errnum, reason, sizeof(reason)));
    set_text(err, ERROR_IO, (unsigned long)errnum, full);
    return ERROR_IO;
}

result error_set_openssl(struct error *err, enum error_category category, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    char full[ERROR_TEXT_MAX + 256];
    const char *data = NULL;
    const char *reason;
    int flags = 0;
    unsigned long code = ERR_peek_last_error_all(NULL, NULL, NULL, &data, &flags);

    FORMAT_TEXT(text, fmt);
    reason = ERR_reason_error_string(code);
    if (code == 0)
        (void)snprintf(full, sizeof(full), "%s", text);
    else if ((flags & ERR_TXT_STRING) && data != NULL && data[0] != '\0')
        (void)snprintf(full, sizeof(full), "%s: %s (%.120s)", text, reason ? reason : "OpenSSL error", data);
    else
        (void)snprintf(full, sizeof(full), "%s: %s", text, reason ? reason : "OpenSSL error");
    ERR_clear_error();
    set_text(err, category, code, full);
    return category;
}

void error_prefix(struct error *err, const char *fmt, ...)
{
    char prefix[ERROR_TEXT_MAX];
    char full[2 * ERROR_TEXT_MAX + 4];

    if (err == NULL || err->category == ERROR_NONE)
        return;
    FORMAT_TEXT(prefix, fmt);
    (void)snprintf(full, sizeof(full), "%s: %s", prefix, err->text);
    set_text(err, err->category, err->code, full);
}

const char *error_category_name(enum error_category category)
{
    static const char *const names[] = {
        [ERROR_NONE] = "none",         [ERROR_IO] = "io",         [ERROR_CLOSED] = "closed",
        [ERROR_PROTOCOL] = "protocol", [ERROR_TOKEN] = "token",   [ERROR_PIN] = "pin",
        [ERROR_VERIFY] = "verify",     [ERROR_CONFIG] = "config", [ERROR_INTERNAL] = "internal",
        [ERROR_USAGE] = "usage",
    };

    if ((size_t)category >= sizeof(names) / sizeof(names[0]))
        return "internal";
    return names[category];
}

int error_exit_status(enum error_category category)
{
    switch (category) {
    case ERROR_NONE:
        return 0;
    case ERROR_VERIFY:
        return 1;
    case ERROR_CONFIG:
    case ERROR_USAGE:
        return 2;
    case ERROR_TOKEN:
        return 3;
    case ERROR_PIN:
        return 4;
    case ERROR_IO:
    case ERROR_CLOSED:
    case ERROR_PROTOCOL:
        return 5;
    case ERROR_INTERNAL:
        break;
    }
    return 70;
}

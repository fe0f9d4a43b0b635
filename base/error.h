/*
 * One error type for the whole project: a category that decides the exit status, a code of the layer it came from,
 * and a text that says what, where and what to do. CK_RV, errno and the OpenSSL queue are turned into it where they
 * appear and nowhere else.
 */
#ifndef TOKENTLS_BASE_ERROR_H
#define TOKENTLS_BASE_ERROR_H

#include <stddef.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* Longest text an error carries, with the terminating NUL; longer texts are cut and end in "...". */
#define ERROR_TEXT_MAX 1024

enum error_category {
    ERROR_NONE = 0, /* success: every fallible function returns this on success */
    ERROR_IO,       /* the operating system refused: resolve, connect, read, write, time-out */
    ERROR_CLOSED,   /* the other side ended the connection, orderly or by truncation */
    ERROR_PROTOCOL, /* the other side broke a protocol (TLS, keyholder messages, PROXY, HTTP) */
    ERROR_TOKEN,    /* token or object absent, ambiguous, or the token failed */
    ERROR_PIN,      /* PIN wrong, blocked, withheld by the guard, or not given */
    ERROR_VERIFY,   /* authentication, verification or authorisation refused, by us or by the peer */
    ERROR_CONFIG,   /* configuration file: the text starts with FILE:LINE where there is one */
    ERROR_INTERNAL, /* a bug or exhausted memory */
    ERROR_USAGE,    /* command line */
};

/* What a fallible function returns: ERROR_NONE or the category that was also put into its struct error. */
typedef enum error_category result;

struct error {
    enum error_category category;
    unsigned long code; /* errno, CK_RV, X509_V_ERR_* or an OpenSSL error, by category; 0 where there is none */
    char text[ERROR_TEXT_MAX];
};

/* A struct error that holds no error; for initialisation. */
#define ERROR_INIT                                                                                                     \
    {                                                                                                                  \
        .category = ERROR_NONE                                                                                         \
    }

/*
 * Record an error of `category` with a formatted text and code 0. `err` may be NULL (nobody wants the text).
 * Returns `category`, so that "return error_set(...)" reads well. Any thread; touches only *err.
 */
result error_set(struct error *err, enum error_category category, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As error_set() with `code` recorded too. */
result error_set_code(struct error *err, enum error_category category, unsigned long code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* ERROR_IO with ": strerror(errnum)" appended and code = errnum. */
result error_set_errno(struct error *err, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * `category` with the newest OpenSSL error's reason appended ("...: certificate verify failed"); the calling
 * thread's OpenSSL queue is emptied. code = the packed OpenSSL error.
 */
result error_set_openssl(struct error *err, enum error_category category, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put "prefix: " before the text of an error that is set; category and code stay. NULL and ERROR_NONE are ignored. */
void error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Name of a category for logs: "io", "closed", "protocol", "token", "pin", "verify", "config", "internal", "usage". */
const char *error_category_name(enum error_category category);

/* The exit status of a program that ends with this error: 0, 1, 2, 3, 4, 5 or 70; see docs/configuration.md. */
int error_exit_status(enum error_category category);

#endif

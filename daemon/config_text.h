/*
 * The text of a configuration before libConfuse sees it: ${NAME} is replaced here, so that an unset variable is an
 * error with its line, and so that every process works on the same text whatever its environment.
 */
#ifndef TOKENTLS_DAEMON_CONFIG_TEXT_H
#define TOKENTLS_DAEMON_CONFIG_TEXT_H

#include "daemon/config_errors.h"

/* Largest configuration, before and after expansion, in bytes. */
#define CONFIG_TEXT_MAX (1024 * 1024)
/* Sections (with nested ones) in one file at the most. */
#define CONFIG_TEXT_SECTIONS_MAX 4096

/* Looks a variable up; NULL when it is not set. getenv() fits, tests pass their own. */
typedef char *config_text_getenv_fn(const char *name);

struct config_text {
    char *text;      /* owned, terminated; has the lines of the original */
    unsigned *lines; /* owned; line of the opening brace of each section, in the order in which sections close */
    size_t n_lines;
};

/*
 * Replace ${NAME} outside comments and single-quoted strings (in double quotes as part of the string, elsewhere as a
 * string of its own; a value is never expanded again) and note where sections begin. Unset variables, values with
 * control characters, bytes that are no text and unterminated strings or comments go to `errors`. ERROR_CONFIG when
 * any were found, ERROR_INTERNAL when memory is exhausted; *ret (to be freed with config_text_free()) only on success.
 */
MUST_USE result config_text_expand(const char *in, size_t length, config_text_getenv_fn *lookup,
                                   struct config_errors *errors, struct config_text *ret);

/* NULL is allowed. */
void config_text_free(struct config_text *text);

#endif

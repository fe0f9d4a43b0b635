/* All that is wrong with a configuration, each as "FILE:LINE: text", so that one run shows everything. */
#ifndef TOKENTLS_DAEMON_CONFIG_ERRORS_H
#define TOKENTLS_DAEMON_CONFIG_ERRORS_H

#include "base/error.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>

/* More errors than this are only counted. */
#define CONFIG_ERRORS_MAX 32

/* Zero it first; free it with config_errors_free(). */
struct config_errors {
    const char *file;              /* as the user named it; borrowed */
    char *text[CONFIG_ERRORS_MAX]; /* owned; in the order found */
    size_t n;                      /* texts kept */
    size_t total;                  /* errors found */
};

/* Add "FILE:LINE: ..." (LINE 0: "FILE: ..."). The text is cut at ERROR_TEXT_MAX; memory exhaustion only counts. */
void config_errors_add(struct config_errors *errors, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* ERROR_NONE when there are none; else ERROR_CONFIG with the first text and "(and N more)". */
MUST_USE result config_errors_result(const struct config_errors *errors, struct error *err);

/* Log each text, and how many were not kept. */
void config_errors_log(const struct config_errors *errors, enum log_level level);

/* Free the texts and empty the list. NULL is allowed. */
void config_errors_free(struct config_errors *errors);

#endif

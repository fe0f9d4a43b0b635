/* One option's value: from the words of a file to the type its row names. Part of config.h's machinery. */
#ifndef TOKENTLS_DAEMON_CONFIG_VALUE_H
#define TOKENTLS_DAEMON_CONFIG_VALUE_H

#include "daemon/config.h"

/* Values of one list at the most. */
#define CONFIG_VALUE_LIST_MAX 256

struct config_value_context {
    const struct config *config; /* for relative paths */
    struct config_errors *errors;
    unsigned line; /* where the value stands, for messages */
};

/*
 * Store `n` words (0: not given, the default is taken) at option->offset of `values`, which holds zeros there. What
 * does not fit goes to the context's errors. False only when memory is exhausted.
 */
MUST_USE bool config_value_set(const struct config_value_context *context, const struct config_option *option,
                               const char *const *texts, size_t n, void *values);

/* Free what config_value_set() stored for all options of the schema (not `values` itself). */
void config_value_free_all(const struct config_schema *schema, void *values);

#endif

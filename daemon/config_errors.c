#include "daemon/config_errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_errors_add(struct config_errors *errors, unsigned line, const char *fmt, ...)
{
    char text[ERROR_TEXT_MAX];
    char whole[ERROR_TEXT_MAX];
    va_list args;

    errors->total++;
    if (errors->n == CONFIG_ERRORS_MAX)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (line != 0)
        (void)snprintf(whole, sizeof(whole), "%s:%u: %.900s", errors->file, line, text);
    else
        (void)snprintf(whole, sizeof(whole), "%s: %.900s", errors->file, text);
    errors->text[errors->n] = strdup(whole);
    if (errors->text[errors->n] != NULL)
        errors->n++;
}

result config_errors_result(const struct config_errors *errors, struct error *err)
{
    if (errors->total == 0)
        return ERROR_NONE;
    if (errors->n == 0)
        return error_set(err, ERROR_CONFIG, "%s: not usable", errors->file);
    if (errors->total == 1)
        return error_set(err, ERROR_CONFIG, "%s", errors->text[0]);
    return error_set(err, ERROR_CONFIG, "%s (and %zu more)", errors->text[0], errors->total - 1);
}

void config_errors_log(const struct config_errors *errors, enum log_level level)
{
    for (size_t i = 0; i < errors->n; i++)
        LOG_WRITE(level, errors->text[i]);
    if (errors->total > errors->n)
        LOG_WRITE(level, "and more", LOG_NUMBER("count", errors->total - errors->n));
}

void config_errors_free(struct config_errors *errors)
{
    if (errors == NULL)
        return;
    for (size_t i = 0; i < errors->n; i++)
        free(errors->text[i]);
    *errors = (struct config_errors){.file = errors->file};
}

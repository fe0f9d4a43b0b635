/*
 * Log lines: a message and key=value fields, as text or JSON, one write(2) each to standard error with a syslog
 * priority prefix ("<6>") when a service manager reads it. Every value is escaped, so a peer cannot forge a line.
 * Libraries do not log: they return errors; programs and the daemons' own folders log.
 */
#ifndef TOKENTLS_BASE_LOG_H
#define TOKENTLS_BASE_LOG_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_field {
    const char *key; /* NULL ends a list; a static string of [a-z0-9_-] */
    enum { LOG_FIELD_TEXT, LOG_FIELD_NUMBER, LOG_FIELD_BOOL } kind;
    const char *text; /* NULL leaves the field out */
    int64_t number;
};

#define LOG_TEXT(k, v)                                                                                                 \
    {                                                                                                                  \
        .key = (k), .kind = LOG_FIELD_TEXT, .text = (v)                                                                \
    }
#define LOG_NUMBER(k, v)                                                                                               \
    {                                                                                                                  \
        .key = (k), .kind = LOG_FIELD_NUMBER, .number = (int64_t)(v)                                                   \
    }
#define LOG_BOOL(k, v)                                                                                                 \
    {                                                                                                                  \
        .key = (k), .kind = LOG_FIELD_BOOL, .number = (v) ? 1 : 0                                                      \
    }

/*
 * Set up once at start, before threads exist. `program` (static string) stands in each line; level: lines less
 * urgent are dropped; priorities: put "<N>" in front (a service manager reads standard error).
 */
void log_setup(const char *program, enum log_level level, enum log_format format, bool priorities);

/* Parse "error", "warning", "notice", "info", "debug"; false leaves *ret_level alone. */
MUST_USE bool log_parse_level(const char *name, enum log_level *ret_level);

/* True when a line of this level would be written. */
bool log_enabled(enum log_level level);

/*
 * Write one line. `message` is a static text; `fields` ends with a zeroed field. Lines are cut at 8 KiB. Any thread.
 * Use the macros: log_info("connection ended", LOG_TEXT("tunnel", name), LOG_NUMBER("bytes_in", n)).
 */
void log_event(enum log_level level, const char *message, const struct log_field *fields);

#define LOG_WRITE(level, message, ...)                                                                                 \
    do {                                                                                                               \
        if (log_enabled(level))                                                                                        \
            log_event(level, message, (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}});                      \
    } while (0)
#define log_error(message, ...) LOG_WRITE(LOG_LEVEL_ERROR, message __VA_OPT__(, ) __VA_ARGS__)
#define log_warning(message, ...) LOG_WRITE(LOG_LEVEL_WARNING, message __VA_OPT__(, ) __VA_ARGS__)
#define log_notice(message, ...) LOG_WRITE(LOG_LEVEL_NOTICE, message __VA_OPT__(, ) __VA_ARGS__)
#define log_info(message, ...) LOG_WRITE(LOG_LEVEL_INFO, message __VA_OPT__(, ) __VA_ARGS__)
#define log_debug(message, ...) LOG_WRITE(LOG_LEVEL_DEBUG, message __VA_OPT__(, ) __VA_ARGS__)

#endif

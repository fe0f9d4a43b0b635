#include "base/log.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192
#define VALUE_MAX_BYTES 4096

/* Written once by log_setup() before threads start, read afterwards. */
static struct {
    const char *program;
    enum log_level level;
    enum log_format format;
    bool priorities;
} settings = {.program = "tokentls", .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_TEXT};

struct line {
    char text[LINE_MAX_BYTES];
    size_t length;
    bool overflow; /* something did not fit since this was last cleared */
};

/* Kept free for the mark of a cut line, the closing brace and the newline. */
#define TAIL_BYTES 32

void log_setup(const char *program, enum log_level level, enum log_format format, bool priorities)
{
    settings.program = program;
    settings.level = level;
    settings.format = format;
    settings.priorities = priorities;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARNING:
        return "warning";
    case LOG_LEVEL_NOTICE:
        return "notice";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "info";
}

bool log_parse_level(const char *name, enum log_level *ret_level)
{
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO,
                                            LOG_LEVEL_DEBUG};

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(name, level_name(levels[i])) == 0) {
            *ret_level = levels[i];
            return true;
        }
    }
    return false;
}

bool log_enabled(enum log_level level)
{
    return level <= settings.level;
}

static void put(struct line *line, const char *text)
{
    size_t length = strlen(text);

    if (length > sizeof(line->text) - TAIL_BYTES - line->length) {
        line->overflow = true;
        return;
    }
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

static bool needs_quotes(const char *value)
{
    return value[0] == '\0' || strpbrk(value, " =\"") != NULL;
}

/*
 * What text_escape() leaves, ready to stand between quotes: a quote, which it writes as \x22, becomes \"; in JSON its
 * other backslashes are doubled. No \x22 can come from elsewhere, since a backslash in the value is \x5c by then.
 */
static void escape_value(const char *value, bool json, char *out)
{
    char escaped[VALUE_MAX_BYTES];

    text_escape(value, strlen(value), escaped, sizeof(escaped));
    for (const char *at = escaped; *at != '\0'; at++) {
        if (strncmp(at, "\\x22", 4) == 0) {
            *out++ = '\\';
            *out++ = '"';
            at += 3;
            continue;
        }
        if (*at == '\\' && json)
            *out++ = '\\';
        *out++ = *at;
    }
    *out = '\0';
}

static void put_value(struct line *line, const char *value, bool json)
{
    char escaped[2 * VALUE_MAX_BYTES];
    bool quotes;

    escape_value(value, json, escaped);
    quotes = json || needs_quotes(escaped);
    if (quotes)
        put(line, "\"");
    put(line, escaped);
    if (quotes)
        put(line, "\"");
}

static void put_field(struct line *line, const struct log_field *field, bool json)
{
    char number[32];

    if (field->kind == LOG_FIELD_TEXT && field->text == NULL)
        return;
    put(line, json ? ",\"" : " ");
    put(line, field->key);
    put(line, json ? "\":" : "=");
    if (field->kind == LOG_FIELD_TEXT) {
        put_value(line, field->text, json);
    } else if (field->kind == LOG_FIELD_BOOL) {
        put(line, field->number ? "true" : "false");
    } else {
        (void)snprintf(number, sizeof(number), "%lld", (long long)field->number);
        put(line, number);
    }
}

static void put_head(struct line *line, enum log_level level, const char *message)
{
    char text[64];
    struct timespec now;
    struct tm utc;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    if (settings.priorities) {
        (void)snprintf(text, sizeof(text), "<%d>", (int)level);
        put(line, text);
    }
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    if (settings.format == LOG_FORMAT_JSON) {
        put(line, "{\"time\":\"");
        put(line, text);
        (void)snprintf(text, sizeof(text), ".%03ldZ\",\"level\":\"%s\",\"program\":\"", now.tv_nsec / 1000000,
                       level_name(level));
        put(line, text);
        put(line, settings.program);
        put(line, "\",\"message\":");
        put_value(line, message, true);
    } else {
        put(line, text);
        (void)snprintf(text, sizeof(text), ".%03ldZ %s ", now.tv_nsec / 1000000, level_name(level));
        put(line, text);
        put(line, settings.program);
        put(line, ": ");
        put(line, message);
    }
}

/* A field is written whole or not at all. */
static void put_fields(struct line *line, const struct log_field *fields, bool json)
{
    bool cut = false;

    for (; fields->key != NULL; fields++) {
        size_t before = line->length;

        put_field(line, fields, json);
        if (line->overflow) {
            line->length = before;
            line->overflow = false;
            cut = true;
        }
    }
    if (cut)
        line->length += (size_t)sprintf(line->text + line->length, json ? ",\"truncated\":true" : " truncated=true");
}

void log_event(enum log_level level, const char *message, const struct log_field *fields)
{
    struct line line = {.length = 0};
    bool json = settings.format == LOG_FORMAT_JSON;
    ssize_t written;

    if (!log_enabled(level))
        return;
    put_head(&line, level, message);
    put_fields(&line, fields, json);
    if (json)
        line.text[line.length++] = '}';
    line.text[line.length++] = '\n';
    written = write(STDERR_FILENO, line.text, line.length);
    (void)written; /* nowhere left to report it */
}

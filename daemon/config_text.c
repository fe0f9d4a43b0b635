#include "daemon/config_text.h"

#include "base/buffer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 128
#define NESTING_MAX 8
#define ASSIGNMENTS_MAX 8192

enum place { PLACE_CODE, PLACE_LINE_COMMENT, PLACE_BLOCK_COMMENT, PLACE_DOUBLE, PLACE_SINGLE };

/* "name =" within the section that was opened as the `section`-th (0: the top level). */
struct assignment {
    const char *name;
    size_t length;
    unsigned section, line;
};

struct scan {
    const char *at, *end;
    unsigned line;
    enum place place;
    unsigned place_line; /* where the string or comment began */
    bool after_equals;   /* a brace opens a list, not a section */
    bool in_word;        /* the last character belonged to an unquoted word */
    bool in_list;
    unsigned open[NESTING_MAX]; /* lines of open sections */
    unsigned ids[NESTING_MAX];  /* and which they are, counted in order of opening */
    size_t depth;
    unsigned n_opened;
    const char *word; /* the last unquoted word; NULL after anything else but blanks and "+" */
    size_t word_length;
    bool appends; /* "+" was seen after the word */
    struct assignment *assignments;
    size_t n_assignments;
    struct buffer out;
    config_text_getenv_fn *lookup;
    struct config_errors *errors;
    struct config_text *ret;
};

static bool starts(const struct scan *scan, const char *what)
{
    size_t length = strlen(what);

    return (size_t)(scan->end - scan->at) >= length && memcmp(scan->at, what, length) == 0;
}

static void take(struct scan *scan, size_t n)
{
    for (size_t i = 0; i < n && scan->at < scan->end; i++) {
        if (*scan->at == '\n')
            scan->line++;
        buffer_put_u8(&scan->out, (uint8_t)*scan->at++);
    }
}

/* A variable's value within double quotes, written so that libConfuse gives back exactly these bytes. */
static void put_value(struct scan *scan, const char *name, const char *value)
{
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;

        if (c < 0x20 || c == 0x7f) {
            config_errors_add(scan->errors, scan->line, "the value of ${%s} holds a control character", name);
            return;
        }
        if (c == '$') {
            buffer_put_bytes(&scan->out, "\\x24", 4);
            continue;
        }
        if (c == '"' || c == '\\')
            buffer_put_u8(&scan->out, '\\');
        buffer_put_u8(&scan->out, c);
    }
}

static bool is_name(const char *name)
{
    if (isdigit((unsigned char)name[0]) || name[0] == '\0')
        return false;
    for (; *name != '\0'; name++) {
        if (!isalnum((unsigned char)*name) && *name != '_')
            return false;
    }
    return true;
}

/* At "${". */
static void expand(struct scan *scan)
{
    const char *close = memchr(scan->at, '}', (size_t)(scan->end - scan->at));
    size_t length = close == NULL ? 0 : (size_t)(close - scan->at) - 2;
    char name[NAME_MAX_BYTES] = "";
    const char *value;

    if (close != NULL && length < sizeof(name)) {
        memcpy(name, scan->at + 2, length);
        name[length] = '\0';
    }
    if (!is_name(name)) {
        config_errors_add(scan->errors, scan->line, "\"${\" must be followed by the name of a variable and \"}\"");
        scan->at += 2;
        return;
    }
    scan->at = close + 1;
    value = scan->lookup(name);
    if (value == NULL) {
        config_errors_add(scan->errors, scan->line, "the environment variable %s is not set", name);
        return;
    }
    if (scan->place == PLACE_CODE)
        buffer_put_u8(&scan->out, '"');
    put_value(scan, name, value);
    if (scan->place == PLACE_CODE)
        buffer_put_u8(&scan->out, '"');
}

static void open_brace(struct scan *scan)
{
    if (scan->after_equals) {
        scan->in_list = true;
        return;
    }
    scan->n_opened++;
    if (scan->depth == NESTING_MAX) {
        config_errors_add(scan->errors, scan->line, "sections are nested too deeply");
        return;
    }
    scan->open[scan->depth] = scan->line;
    scan->ids[scan->depth] = scan->n_opened;
    scan->depth++;
}

static void close_brace(struct scan *scan)
{
    if (scan->in_list) {
        scan->in_list = false;
        return;
    }
    if (scan->depth == 0)
        return;
    scan->depth--;
    if (scan->ret->n_lines < CONFIG_TEXT_SECTIONS_MAX)
        scan->ret->lines[scan->ret->n_lines++] = scan->open[scan->depth];
    else
        config_errors_add(scan->errors, scan->line, "more than %d sections", CONFIG_TEXT_SECTIONS_MAX);
}

/* Whether an unquoted word may hold `c`: kept narrow, because libConfuse's own idea of a word depends on what follows.
 */
static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* What stands outside strings and comments and is neither word, blank nor punctuation. */
static void check_character(struct scan *scan, char c)
{
    if (is_word(c) || isspace((unsigned char)c) || strchr("{}=,+\"'()", c) != NULL)
        return;
    config_errors_add(scan->errors, scan->line, "unexpected \"%c\" outside a string; put the value in double quotes",
                      c);
}

/* At "=". Appending ("+=") is meant; giving an option twice is not. */
static void assign(struct scan *scan)
{
    struct assignment new = {.name = scan->word,
                             .length = scan->word_length,
                             .section = scan->depth == 0 ? 0 : scan->ids[scan->depth - 1],
                             .line = scan->line};

    if (scan->word == NULL) {
        config_errors_add(scan->errors, scan->line, "\"=\" must follow the name of an option");
        return;
    }
    for (size_t i = 0; i < scan->n_assignments && !scan->appends; i++) {
        const struct assignment *old = &scan->assignments[i];

        if (old->section == new.section && old->length == new.length &&memcmp(old->name, new.name, new.length) == 0) {
            config_errors_add(scan->errors, scan->line, "%.*s is set again; it was set in line %u", (int)new.length,
                              new.name, old->line);
            return;
        }
    }
    if (scan->n_assignments < ASSIGNMENTS_MAX)
        scan->assignments[scan->n_assignments++] = new;
    else
        config_errors_add(scan->errors, scan->line, "more than %d options", ASSIGNMENTS_MAX);
}

/* Follow words, so that "=" knows what it assigns to. */
static void note(struct scan *scan, char c, bool was_word)
{
    if (is_word(c)) {
        if (!was_word)
            scan->word = scan->at;
        scan->word_length = (size_t)(scan->at - scan->word) + 1;
        scan->appends = false;
    } else if (c == '=') {
        assign(scan);
        scan->word = NULL;
    } else if (c == '+') {
        scan->appends = true;
    } else if (!isspace((unsigned char)c)) {
        scan->word = NULL;
    }
    if (!isspace((unsigned char)c))
        scan->after_equals = c == '=';
}

static void enter(struct scan *scan, enum place place, size_t n)
{
    scan->place = place;
    scan->place_line = scan->line;
    take(scan, n);
}

static void step_code(struct scan *scan)
{
    char c = *scan->at;
    bool was_word = scan->in_word;

    scan->in_word = is_word(c);
    if (starts(scan, "${")) {
        expand(scan);
        scan->after_equals = false;
        scan->word = NULL;
        return;
    }
    if (!was_word && (c == '#' || starts(scan, "//"))) {
        enter(scan, PLACE_LINE_COMMENT, 1);
        return;
    }
    if (!was_word && starts(scan, "/*")) {
        enter(scan, PLACE_BLOCK_COMMENT, 2);
        return;
    }
    check_character(scan, c);
    if (c == '{')
        open_brace(scan);
    else if (c == '}')
        close_brace(scan);
    note(scan, c, was_word);
    if (c == '"' || c == '\'')
        enter(scan, c == '"' ? PLACE_DOUBLE : PLACE_SINGLE, 1);
    else
        take(scan, 1);
}

static void step_string(struct scan *scan)
{
    char quote = scan->place == PLACE_DOUBLE ? '"' : '\'';

    if (*scan->at == '\n') {
        config_errors_add(scan->errors, scan->line, "a string that begins here does not end on its line");
        scan->place = PLACE_CODE;
    } else if (*scan->at == '\\' && scan->end - scan->at > 1 && scan->at[1] != '\n') {
        take(scan, 2);
    } else if (scan->place == PLACE_DOUBLE && starts(scan, "${")) {
        expand(scan);
    } else {
        if (*scan->at == quote)
            scan->place = PLACE_CODE;
        take(scan, 1);
    }
}

static void step(struct scan *scan)
{
    switch (scan->place) {
    case PLACE_CODE:
        step_code(scan);
        break;
    case PLACE_LINE_COMMENT:
        if (*scan->at == '\n')
            scan->place = PLACE_CODE;
        take(scan, 1);
        break;
    case PLACE_BLOCK_COMMENT:
        if (starts(scan, "*/")) {
            scan->place = PLACE_CODE;
            take(scan, 2);
        } else {
            take(scan, 1);
        }
        break;
    case PLACE_DOUBLE:
    case PLACE_SINGLE:
        step_string(scan);
        break;
    }
}

static bool is_text(const char *in, size_t length, struct config_errors *errors)
{
    unsigned line = 1;

    if (length > CONFIG_TEXT_MAX) {
        config_errors_add(errors, 0, "larger than %d bytes", CONFIG_TEXT_MAX);
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)in[i];

        line += c == '\n';
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            config_errors_add(errors, line, "a byte that is no text: 0x%02x", c);
            return false;
        }
    }
    return true;
}

static result finish(struct scan *scan, size_t errors_before)
{
    if (scan->place == PLACE_BLOCK_COMMENT)
        config_errors_add(scan->errors, scan->place_line, "a comment that begins here does not end");
    if (scan->place == PLACE_DOUBLE || scan->place == PLACE_SINGLE)
        config_errors_add(scan->errors, scan->place_line, "a string that begins here does not end");
    while (scan->depth > 0)
        config_errors_add(scan->errors, scan->open[--scan->depth], "a section that begins here does not end");
    /* libConfuse ends a file cleanly only at a line's end. */
    buffer_put_bytes(&scan->out, "\n\0", 2);
    if (scan->errors->total != errors_before)
        return ERROR_CONFIG;
    return buffer_ok(&scan->out) ? ERROR_NONE : ERROR_INTERNAL;
}

result config_text_expand(const char *in, size_t length, config_text_getenv_fn *lookup, struct config_errors *errors,
                          struct config_text *ret)
{
    struct config_text text = {.lines = calloc(CONFIG_TEXT_SECTIONS_MAX, sizeof(unsigned))};
    struct scan scan = {.at = in,
                        .end = in + length,
                        .line = 1,
                        .lookup = lookup,
                        .errors = errors,
                        .ret = &text,
                        .assignments = calloc(ASSIGNMENTS_MAX, sizeof(struct assignment))};
    size_t before = errors->total;
    result r = ERROR_INTERNAL;

    buffer_init(&scan.out, CONFIG_TEXT_MAX + 2);
    if (text.lines == NULL || scan.assignments == NULL)
        goto err0;
    r = ERROR_CONFIG;
    if (!is_text(in, length, errors))
        goto err0;
    while (scan.at < scan.end)
        step(&scan);
    r = finish(&scan, before);
    if (r != ERROR_NONE)
        goto err0;
    text.text = strdup((const char *)scan.out.data);
    r = ERROR_INTERNAL;
    if (text.text == NULL)
        goto err0;
    buffer_free(&scan.out);
    free(scan.assignments);
    *ret = text;
    return ERROR_NONE;

err0:
    buffer_free(&scan.out);
    free(scan.assignments);
    config_text_free(&text);
    return r;
}

void config_text_free(struct config_text *text)
{
    if (text == NULL)
        return;
    free(text->text);
    free(text->lines);
    *text = (struct config_text){0};
}

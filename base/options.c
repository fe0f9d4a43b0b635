#include "base/options.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define HELP_WIDTH 80
/* Column where the help of an option begins; longer option names put it on the next line. */
#define HELP_COLUMN 26
/* Columns the options stand in from the left. */
#define HELP_INDENT 2
/* Longest choice ("required") with room to spare. */
#define CHOICE_MAX 64

struct parser {
    const struct options *options;
    int argc;
    char *const *argv;
    int at;        /* argument being read */
    uint64_t seen; /* bit i: entry i was given */
};

void options_list_free(struct options_list *list)
{
    if (list == NULL)
        return;
    free(list->items);
    *list = (struct options_list){0};
}

static bool list_add(struct options_list *list, const char *value)
{
    const char **items = realloc(list->items, (list->n + 2) * sizeof(*items));

    if (items == NULL)
        return false;
    items[list->n++] = value;
    items[list->n] = NULL;
    list->items = items;
    return true;
}

/* Call `each` for each alternative of "a|b|c" until it returns true. */
static bool choices_each(const char *choices, bool (*each)(void *arg, const char *choice), void *arg)
{
    char choice[CHOICE_MAX];

    for (;;) {
        size_t length = strcspn(choices, "|");

        (void)snprintf(choice, sizeof(choice), "%.*s", (int)length, choices);
        if (each(arg, choice))
            return true;
        if (choices[length] == '\0')
            return false;
        choices += length + 1;
    }
}

static bool choice_is(void *arg, const char *choice)
{
    return strcmp(choice, arg) == 0;
}

static result usage_value(const struct options_entry *entry, const char *value, struct error *err)
{
    char shown[128];

    text_escape(value, strlen(value), shown, sizeof(shown));
    switch (entry->kind) {
    case OPTIONS_KIND_CHOICE:
        return error_set(err, ERROR_USAGE, "--%s is one of %s, not \"%s\"", entry->name, entry->argument, shown);
    case OPTIONS_KIND_NUMBER:
        return error_set(err, ERROR_USAGE, "--%s is a number from %llu to %llu, not \"%s\"", entry->name,
                         (unsigned long long)entry->min, (unsigned long long)entry->max, shown);
    case OPTIONS_KIND_DURATION:
        return error_set(err, ERROR_USAGE, "--%s is a time such as 250ms, 10s, 5m, 2h or 0, not \"%s\"", entry->name,
                         shown);
    case OPTIONS_KIND_FLAG:
        return error_set(err, ERROR_USAGE, "--%s takes no value (\"%s\")", entry->name, shown);
    case OPTIONS_KIND_TEXT:
    case OPTIONS_KIND_LIST:
        break;
    }
    return error_set(err, ERROR_INTERNAL, "--%s: out of memory", entry->name);
}

/* `value` is NULL for a flag only. */
static bool store(const struct options_entry *entry, const char *value)
{
    char wanted[CHOICE_MAX];

    switch (entry->kind) {
    case OPTIONS_KIND_FLAG:
        *entry->flag = true;
        return value == NULL;
    case OPTIONS_KIND_TEXT:
        *entry->text = value;
        return true;
    case OPTIONS_KIND_CHOICE:
        if (strlen(value) >= sizeof(wanted))
            return false;
        memcpy(wanted, value, strlen(value) + 1);
        *entry->text = value;
        return choices_each(entry->argument, choice_is, wanted);
    case OPTIONS_KIND_NUMBER:
        return text_parse_number(value, entry->min, entry->max, entry->number);
    case OPTIONS_KIND_DURATION:
        return text_parse_duration(value, entry->number);
    case OPTIONS_KIND_LIST:
        return list_add(entry->list, value);
    }
    return false;
}

static size_t count(const struct options_entry *entries)
{
    size_t n = 0;

    while (entries[n].name != NULL)
        n++;
    return n;
}

/* The entry called name (length bytes), its number in *ret; NULL when there is none. */
static const struct options_entry *find(const struct options *options, const char *name, size_t length, size_t *ret)
{
    for (size_t i = 0; options->entries[i].name != NULL; i++) {
        const struct options_entry *entry = &options->entries[i];

        if (strlen(entry->name) == length && strncmp(entry->name, name, length) == 0) {
            *ret = i;
            return entry;
        }
    }
    return NULL;
}

static result unknown(const struct parser *parser, const char *argument, struct error *err)
{
    const char *names[OPTIONS_ENTRIES_MAX + 2];
    const char *nearest;
    char shown[128];
    char word[128];
    size_t n = 0;

    for (const struct options_entry *entry = parser->options->entries; entry->name != NULL; entry++)
        names[n++] = entry->name;
    names[n++] = "help";
    names[n] = NULL;
    text_escape(argument, strcspn(argument, "="), shown, sizeof(shown));
    (void)snprintf(word, sizeof(word), "%s", shown + strspn(shown, "-"));
    nearest = text_nearest(word, names);
    if (nearest != NULL)
        return error_set(err, ERROR_USAGE, "unknown option %s; did you mean --%s?", shown, nearest);
    return error_set(err, ERROR_USAGE, "unknown option %s; see %s --help", shown, parser->options->program);
}

/* parser->at stands on an argument "--name" or "--name=value". */
static result parse_option(struct parser *parser, struct error *err)
{
    const char *argument = parser->argv[parser->at];
    const char *name = argument + 2;
    const char *equals = strchr(name, '=');
    const struct options_entry *entry;
    const char *value = equals != NULL ? equals + 1 : NULL;
    size_t number = 0;

    entry = find(parser->options, name, equals != NULL ? (size_t)(equals - name) : strlen(name), &number);
    if (entry == NULL)
        return unknown(parser, argument, err);
    if ((parser->seen >> number & 1) != 0 && entry->kind != OPTIONS_KIND_LIST)
        return error_set(err, ERROR_USAGE, "--%s is given twice", entry->name);
    parser->seen |= (uint64_t)1 << number;
    if (value == NULL && entry->kind != OPTIONS_KIND_FLAG) {
        value = parser->at + 1 < parser->argc ? parser->argv[parser->at + 1] : NULL;
        if (value == NULL || text_after(value, "--") != NULL)
            return error_set(err, ERROR_USAGE, "--%s needs a value: --%s %s", entry->name, entry->name,
                             entry->argument);
        parser->at++;
    }
    if (!store(entry, value))
        return usage_value(entry, value, err);
    return ERROR_NONE;
}

static result add_positional(const struct parser *parser, const char *argument, struct options_rest *rest,
                             struct error *err)
{
    char shown[128];

    text_escape(argument, strlen(argument), shown, sizeof(shown));
    if (parser->options->max_positionals == 0)
        return error_set(err, ERROR_USAGE, "unexpected argument \"%s\"", shown);
    if (rest->n == parser->options->max_positionals || rest->n == OPTIONS_POSITIONALS_MAX)
        return error_set(err, ERROR_USAGE, "\"%s\" is one argument too many; expected %s", shown,
                         parser->options->positionals);
    rest->items[rest->n++] = argument;
    return ERROR_NONE;
}

static result check_complete(const struct parser *parser, const struct options_rest *rest, struct error *err)
{
    for (size_t i = 0; parser->options->entries[i].name != NULL; i++) {
        const struct options_entry *entry = &parser->options->entries[i];

        if (entry->required && (parser->seen >> i & 1) == 0)
            return error_set(err, ERROR_USAGE, "--%s %s is missing", entry->name, entry->argument);
    }
    if (rest->n < parser->options->min_positionals)
        return error_set(err, ERROR_USAGE, "argument missing: %s", parser->options->positionals);
    return ERROR_NONE;
}

static bool asks_for_help(int argc, char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

result options_parse(const struct options *options, int argc, char *const *argv, struct options_rest *ret,
                     struct error *err)
{
    struct parser parser = {.options = options, .argc = argc, .argv = argv};
    struct options_rest rest = {0};
    bool only_positionals = false;
    result res = ERROR_NONE;

    if (count(options->entries) > OPTIONS_ENTRIES_MAX)
        return error_set(err, ERROR_INTERNAL, "%s: more than %d options", options->program, OPTIONS_ENTRIES_MAX);
    if (asks_for_help(argc, argv)) {
        *ret = (struct options_rest){.help = true};
        return ERROR_NONE;
    }
    for (parser.at = 1; parser.at < argc && res == ERROR_NONE; parser.at++) {
        const char *argument = argv[parser.at];

        if (only_positionals || argument[0] != '-' || argument[1] == '\0')
            res = add_positional(&parser, argument, &rest, err);
        else if (strcmp(argument, "--") == 0)
            only_positionals = true;
        else if (argument[1] == '-')
            res = parse_option(&parser, err);
        else
            res = unknown(&parser, argument, err);
    }
    if (res == ERROR_NONE)
        res = check_complete(&parser, &rest, err);
    if (res == ERROR_NONE)
        *ret = rest;
    return res;
}

/* Print words from column `column` on, lines broken before HELP_WIDTH and continued at `indent`; ends the line. */
static void print_wrapped(FILE *out, const char *text, size_t column, size_t indent)
{
    bool first = true;

    for (;;) {
        size_t length;

        text += strspn(text, " ");
        length = strcspn(text, " ");
        if (length == 0)
            break;
        if (!first && column + 1 + length > HELP_WIDTH) {
            (void)fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            (void)fputc(' ', out);
            column++;
        }
        (void)fprintf(out, "%.*s", (int)length, text);
        column += length;
        text += length;
        first = false;
    }
    (void)fputc('\n', out);
}

static void print_entry(FILE *out, const char *name, const char *argument, const char *help)
{
    size_t column = HELP_INDENT + 2 + strlen(name) + (argument != NULL ? 1 + strlen(argument) : 0);

    (void)fprintf(out, "%*s--%s%s%s", HELP_INDENT, "", name, argument != NULL ? " " : "",
                  argument != NULL ? argument : "");
    if (column + 2 > HELP_COLUMN) {
        (void)fputc('\n', out);
        column = 0;
    }
    (void)fprintf(out, "%*s", (int)(HELP_COLUMN - column), "");
    print_wrapped(out, help, HELP_COLUMN, HELP_COLUMN);
}

static void print_usage(const struct options *options, FILE *out)
{
    char usage[1024];
    size_t used = 0;

    for (const struct options_entry *entry = options->entries; entry->name != NULL; entry++) {
        int n = entry->required ? snprintf(usage + used, sizeof(usage) - used, "--%s %s ", entry->name, entry->argument)
                                : 0;

        used = n > 0 && (size_t)n < sizeof(usage) - used ? used + (size_t)n : used;
    }
    (void)snprintf(usage + used, sizeof(usage) - used, "[options] %s",
                   options->positionals != NULL ? options->positionals : "");
    (void)fprintf(out, "usage: %s ", options->program);
    print_wrapped(out, usage, strlen("usage:  ") + strlen(options->program), 2 * HELP_INDENT);
}

void options_help(const struct options *options, FILE *out)
{
    char help[1024];

    print_usage(options, out);
    if (options->description != NULL) {
        (void)fputc('\n', out);
        print_wrapped(out, options->description, 0, 0);
    }
    (void)fputs("\noptions:\n", out);
    for (const struct options_entry *entry = options->entries; entry->name != NULL; entry++) {
        const char *more = entry->kind == OPTIONS_KIND_LIST ? "; may be repeated"
                           : entry->required                ? " (required)"
                                                            : "";

        (void)snprintf(help, sizeof(help), "%s%s", entry->help, more);
        print_entry(out, entry->name, entry->argument, help);
    }
    print_entry(out, "help", NULL, "show this and exit");
    if (options->epilog != NULL)
        (void)fprintf(out, "\n%s", options->epilog);
}

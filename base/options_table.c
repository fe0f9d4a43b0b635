#include "base/options_table.h"

#define RECORD(out, kind, ...)                                                                                         \
    options_table_record(out, kind, (const char *const[]){__VA_ARGS__},                                                \
                         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void print_field(FILE *out, const char *text)
{
    (void)fputc('\t', out);
    for (; text != NULL && *text != '\0'; text++) {
        if (*text == '\n' || *text == '\t' || *text == '\\')
            (void)fprintf(out, "\\%c", *text == '\n' ? 'n' : *text == '\t' ? 't' : '\\');
        else
            (void)fputc(*text, out);
    }
}

void options_table_record(FILE *out, const char *kind, const char *const *fields, size_t n)
{
    (void)fputs(kind, out);
    for (size_t i = 0; i < n; i++)
        print_field(out, fields[i]);
    (void)fputc('\n', out);
}

void options_table_print(const struct options *options, FILE *out)
{
    static const char *const kinds[] = {
        [OPTIONS_KIND_FLAG] = "flag",     [OPTIONS_KIND_TEXT] = "text",         [OPTIONS_KIND_CHOICE] = "choice",
        [OPTIONS_KIND_NUMBER] = "number", [OPTIONS_KIND_DURATION] = "duration", [OPTIONS_KIND_LIST] = "list",
    };

    RECORD(out, "program", options->program);
    RECORD(out, "description", options->description);
    RECORD(out, "positionals", options->positionals);
    for (const struct options_entry *entry = options->entries; entry->name != NULL; entry++)
        RECORD(out, "option", entry->name, entry->argument, kinds[entry->kind], entry->required ? "required" : "",
               entry->help);
    RECORD(out, "option", "help", NULL, "flag", "", "show this and exit");
    RECORD(out, "epilog", options->epilog);
}

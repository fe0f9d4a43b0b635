/*
 * Configuration files as tables: each option is one row (section, name, type, range, default, help). libConfuse reads
 * the syntax; the rows convert, check, print the list of options and are compared with docs/configuration.md by a
 * test. A configuration is parsed from memory, so that the supervisor and the network process work on the same text.
 */
#ifndef TOKENTLS_DAEMON_CONFIG_H
#define TOKENTLS_DAEMON_CONFIG_H

#include "base/error.h"
#include "daemon/config_errors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum config_type {
    CONFIG_TEXT,     /* char *; NULL when not given and without default */
    CONFIG_PATH,     /* char *, made absolute with the folder of the configuration file */
    CONFIG_LIST,     /* struct config_list; a single value may stand without braces */
    CONFIG_PATHS,    /* struct config_list of paths */
    CONFIG_BOOL,     /* bool */
    CONFIG_NUMBER,   /* uint64_t in [min, max]; with `automatic` also "auto" as 0 */
    CONFIG_DURATION, /* uint64_t, milliseconds in [min, max]; max 0: unlimited. "0" only when min is 0 */
    CONFIG_CHOICE    /* int, index in `choices` */
};

/* Both are owned by the configuration. items is NULL-terminated, also when n is 0. */
struct config_list {
    const char **items;
    size_t n;
};

struct config_option {
    const char *name;
    enum config_type type;
    size_t offset;              /* of the value in the section's struct */
    const char *fallback;       /* the default as a user would write it (without quotes); NULL: none */
    bool required;              /* must be given and not be empty */
    bool automatic;             /* CONFIG_NUMBER: "auto" is allowed */
    bool idle;                  /* accepted, warned about, without effect: nobody is less safe for its absence */
    uint64_t min, max;          /* CONFIG_NUMBER, CONFIG_DURATION */
    const char *const *choices; /* CONFIG_CHOICE; NULL-terminated */
    const char *help;           /* a sentence */
};

struct config_schema {
    const char *name;  /* of the section; "" for the whole file */
    const char *title; /* what its title is called in messages and help ("NAME"); NULL: it has no title */
    bool repeated;     /* may occur more than once */
    bool idle;         /* accepted, warned about, without effect yet */
    size_t size;       /* bytes of the struct that offsets refer to */
    const struct config_option *options;         /* ends with a row without name */
    const struct config_schema *const *sections; /* NULL-terminated; NULL: none */
    const char *help;
};

/* A section as it stands in a file. Everything is owned by the configuration. */
struct config_section {
    const struct config_schema *schema;
    const char *title;               /* NULL without one */
    unsigned line;                   /* of its opening brace; 0 for the whole file */
    void *values;                    /* the schema's struct, filled */
    unsigned *option_lines;          /* by row of the schema: line of the value, 0 when the default stands */
    struct config_section *sections; /* nested ones, grouped by kind, in order of appearance */
    size_t n_sections;
};

struct config {
    char *file;   /* as the user named it */
    char *folder; /* absolute; relative paths start here */
    char *text;   /* the text with variables replaced; what config_parse() accepts again */
    struct config_section top;
};

/*
 * Parse `length` bytes that came from `file` (used for messages and to find relative files; not opened; must be an
 * absolute path or one that stays right for the current folder). `expand`: replace ${NAME} from the environment;
 * false for a text that config_parse() has produced. Everything wrong goes to `errors`, which is given a file name.
 * Unset options have their defaults. ERROR_CONFIG when there were errors, ERROR_INTERNAL when memory is exhausted;
 * *ret (to be freed with config_free()) only on success. Not reentrant within one thread.
 */
struct config_source {
    const char *file, *text;
    size_t length;
    bool expand;
};
MUST_USE result config_parse(const struct config_schema *schema, const struct config_source *source,
                             struct config_errors *errors, struct config **ret);

/* NULL is allowed. */
void config_free(struct config *config);

/* The line of an option's value in a section, or of the section when it was not given. `name` must be in the schema. */
unsigned config_line(const struct config_section *section, const char *name);

/* True when the option was given in the file. */
bool config_given(const struct config_section *section, const char *name);

/* `path` made absolute with the configuration's folder; malloc'ed, NULL when memory is exhausted. */
char *config_resolve(const struct config *config, const char *path);

/* Print all sections and options with type, range, default and help, 80 columns wide, for --help. */
void config_print_help(const struct config_schema *schema, FILE *out);

/*
 * Print the same as records of base/options_table.h, each section before its options:
 *   section, name ("" for the whole file, "gateway / allow" for a nested one), what its title is or "", "repeated" or
 * "", help setting, name, type as shown, "required" or "", default or "", help
 */
void config_print_table(const struct config_schema *schema, FILE *out);

/* "text", "list of paths", "number 1..1024", "duration", "required|prefer|off": the type as shown. Returns out. */
char *config_describe_type(const struct config_option *option, char *out, size_t size);

#endif

/*
 * A command line as one table: name, argument, kind, where the value goes, help. The table parses argv, refuses what
 * it does not know with the nearest known name, and prints --help in 80 columns.
 *
 *     struct options_list crls = {0};
 *     const char *trust = NULL, *revocation = "required";
 *     bool json = false;
 *     const struct options_entry entries[] = {
 *         OPTIONS_REQUIRED("trust", "FILE", &trust, "anchors, PEM or DER"),
 *         OPTIONS_LIST("crl", "FILE", &crls, "CRL file or folder"),
 *         OPTIONS_CHOICE("revocation", "required|prefer|off", &revocation, "what missing CRLs mean"),
 *         OPTIONS_FLAG("json", &json, "print JSON"),
 *         OPTIONS_END};
 *
 * Accepted: --name value, --name=value, options after positional arguments, "--" (the rest is positional), "-" as a
 * positional argument, -h and --help. Names are never abbreviated, so a script stays valid when options are added.
 */
#ifndef TOKENTLS_BASE_OPTIONS_H
#define TOKENTLS_BASE_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Entries in one table and positional arguments of one command line, at the most. */
#define OPTIONS_ENTRIES_MAX 64
#define OPTIONS_POSITIONALS_MAX 16

enum options_kind {
    OPTIONS_KIND_FLAG,     /* no argument; target bool */
    OPTIONS_KIND_TEXT,     /* target const char *, pointing into argv */
    OPTIONS_KIND_CHOICE,   /* one of argument's alternatives "a|b|c"; target const char * */
    OPTIONS_KIND_NUMBER,   /* decimal in [min, max]; target uint64_t */
    OPTIONS_KIND_DURATION, /* "250ms", "10s", "5m", "2h", "1d", "0"; target uint64_t, milliseconds */
    OPTIONS_KIND_LIST      /* may be repeated; target struct options_list */
};

/* The values of a repeatable option in the order given; zero it first, free it with options_list_free(). */
struct options_list {
    const char **items; /* owned array, NULL-terminated once something was added; the strings are argv's */
    size_t n;
};

struct options_entry {
    const char *name;     /* without dashes; NULL ends the table */
    const char *argument; /* as shown: "FILE"; NULL for a flag; the alternatives for a choice */
    enum options_kind kind;
    bool required;
    uint64_t min, max; /* number only */
    /* Where the value goes. What stands there before options_parse() is the default. Exactly one is set. */
    bool *flag;
    const char **text;
    uint64_t *number;
    struct options_list *list;
    const char *help; /* may name the default; wrapped when printed */
};

#define OPTIONS_FLAG(n, target, h)                                                                                     \
    {                                                                                                                  \
        .name = (n), .kind = OPTIONS_KIND_FLAG, .flag = (target), .help = (h)                                          \
    }
#define OPTIONS_TEXT(n, arg, target, h)                                                                                \
    {                                                                                                                  \
        .name = (n), .argument = (arg), .kind = OPTIONS_KIND_TEXT, .text = (target), .help = (h)                       \
    }
#define OPTIONS_REQUIRED(n, arg, target, h)                                                                            \
    {                                                                                                                  \
        .name = (n), .argument = (arg), .kind = OPTIONS_KIND_TEXT, .required = true, .text = (target), .help = (h)     \
    }
#define OPTIONS_CHOICE(n, alternatives, target, h)                                                                     \
    {                                                                                                                  \
        .name = (n), .argument = (alternatives), .kind = OPTIONS_KIND_CHOICE, .text = (target), .help = (h)            \
    }
#define OPTIONS_NUMBER(n, arg, target, lowest, highest, h)                                                             \
    {                                                                                                                  \
        .name = (n), .argument = (arg), .kind = OPTIONS_KIND_NUMBER, .number = (target), .min = (lowest),              \
        .max = (highest), .help = (h)                                                                                  \
    }
#define OPTIONS_DURATION(n, arg, target, h)                                                                            \
    {                                                                                                                  \
        .name = (n), .argument = (arg), .kind = OPTIONS_KIND_DURATION, .number = (target), .help = (h)                 \
    }
#define OPTIONS_LIST(n, arg, target, h)                                                                                \
    {                                                                                                                  \
        .name = (n), .argument = (arg), .kind = OPTIONS_KIND_LIST, .list = (target), .help = (h)                       \
    }
#define OPTIONS_END                                                                                                    \
    {                                                                                                                  \
        .name = NULL                                                                                                   \
    }

/* A command line's description. All strings are borrowed and outlive the call. */
struct options {
    const char *program;     /* as typed: "tokentls verify" */
    const char *description; /* a sentence or a paragraph; wrapped; may be NULL */
    const char *positionals; /* as shown in the usage line: "LEAF", "[URI]"; NULL: none are taken */
    size_t min_positionals, max_positionals;
    const struct options_entry *entries;
    const char *epilog; /* printed as it stands after the options: examples, exit statuses; may be NULL */
};

struct options_rest {
    bool help; /* --help was given: nothing else was checked, print options_help() and exit 0 */
    size_t n;
    const char *items[OPTIONS_POSITIONALS_MAX + 1]; /* positional arguments, NULL-terminated; the strings are argv's */
};

/*
 * Parse argv[1] .. argv[argc - 1] into the targets of the entries. ERROR_USAGE with a text that says what to type
 * instead: unknown option (nearest name), value missing, superfluous, not in its range or not one of the choices, an
 * option given twice, a required one missing, too few or too many positional arguments. Targets may have been written
 * before an error was found. A value that starts with "--" is only taken in the form --name=--value.
 */
MUST_USE result options_parse(const struct options *options, int argc, char *const *argv, struct options_rest *ret,
                              struct error *err);

/* Print usage, description, options and epilog to `out`, at most 80 columns wide. */
void options_help(const struct options *options, FILE *out);

/* Free the array of a list (not the strings) and empty it. NULL is allowed. */
void options_list_free(struct options_list *list);

#endif

/*
 * The table of a command line for programs: what manual pages and shell completions are made of at build time. One
 * record a line, fields separated by tabs; in texts, backslash, tab and line feed are written \\, \t and \n.
 */
#ifndef TOKENTLS_BASE_OPTIONS_TABLE_H
#define TOKENTLS_BASE_OPTIONS_TABLE_H

#include "base/options.h"

#include <stdio.h>

/* The argument that makes a program print its table; not shown by --help. */
#define OPTIONS_TABLE_ARGUMENT "--help-table"

/*
 * Print the records
 *   program, name / description, text / positionals, text / epilog, text
 *   option, name, argument or "", "flag" | "text" | "choice" | "number" | "duration" | "list", "required" or "", help
 */
void options_table_print(const struct options *options, FILE *out);

/* Print one record: the kind and `n` fields, NULL counting as "". */
void options_table_record(FILE *out, const char *kind, const char *const *fields, size_t n);

#endif

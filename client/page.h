/*
 * Aligned text for people: a name, a column, a value that is wrapped to the terminal's usual width. Colours only
 * where `out` is a terminal, TERM is not "dumb" and NO_COLOR is not set (no-color.org).
 */
#ifndef TOKENTLS_CLIENT_PAGE_H
#define TOKENTLS_CLIENT_PAGE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>

#define PAGE_WIDTH 80  /* columns; a word that is longer (a URI to paste) is not cut */
#define PAGE_COLUMN 20 /* where values begin */

enum page_tone { PAGE_PLAIN, PAGE_BOLD, PAGE_GOOD, PAGE_WARNING, PAGE_BAD };

struct page_place {
    int indent;
    const char *name; /* "" continues the line above */
    enum page_tone tone;
};

/* One entry. Bytes of the formatted text that are not printable are shown as '?'. */
void page_line(FILE *out, const struct page_place *place, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* May escape sequences be written to `out`? */
bool page_has_colours(FILE *out);

#endif

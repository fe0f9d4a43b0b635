/* --alpn LIST: application protocols to offer. */
#ifndef TOKENTLS_CLIENT_ALPN_LIST_H
#define TOKENTLS_CLIENT_ALPN_LIST_H

#include "base/error.h"

#include <stddef.h>

#define ALPN_LIST_MAX 16 /* names */

struct alpn_list {
    char *text;                           /* owned; the names point into it */
    const char *names[ALPN_LIST_MAX + 1]; /* NULL-terminated */
    size_t n;
    unsigned char wire[ALPN_LIST_MAX * 256]; /* RFC 7301 3.1 */
    unsigned wire_length;                    /* bytes */
};

/* Parse names separated by commas; NULL is an empty list. ERROR_USAGE. *ret is to be cleared, on failure too. */
MUST_USE result alpn_list_parse(const char *text, struct alpn_list *ret, struct error *err);

/* Free the text; the list is empty then. */
void alpn_list_clear(struct alpn_list *list);

#endif

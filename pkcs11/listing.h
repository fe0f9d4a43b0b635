/* A list of complete URIs that goes into an error's text, cut with "and N more" where the text ends. One thread. */
#ifndef TOKENTLS_PKCS11_LISTING_H
#define TOKENTLS_PKCS11_LISTING_H

#include "base/error.h"

#include <stddef.h>

struct listing {
    char text[ERROR_TEXT_MAX - 256]; /* leaves room for the sentence around it */
    size_t length;                   /* bytes of text */
    size_t n;                        /* entries, listed or not */
    size_t hidden;                   /* entries that did not fit */
};

/* Add an entry; NULL counts as hidden. Begin with a zeroed struct. */
void listing_add(struct listing *listing, const char *entry);

/* "A, B and 3 more", or "none". Valid as long as the listing; nothing may be added afterwards. */
const char *listing_text(struct listing *listing);

#endif

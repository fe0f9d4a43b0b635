#include "pkcs11/listing.h"

#include <stdio.h>
#include <string.h>

#define TAIL_MAX 32 /* " and 4294967295 more" */

void listing_add(struct listing *listing, const char *entry)
{
    size_t length = entry == NULL ? 0 : strlen(entry);

    listing->n++;
    if (entry == NULL || listing->hidden > 0 || listing->length + length + 2 + TAIL_MAX > sizeof(listing->text)) {
        listing->hidden++;
        return;
    }
    listing->length += (size_t)snprintf(listing->text + listing->length, sizeof(listing->text) - listing->length,
                                        "%s%s", listing->length == 0 ? "" : ", ", entry);
}

const char *listing_text(struct listing *listing)
{
    if (listing->n == 0)
        return "none";
    if (listing->hidden > 0)
        (void)snprintf(listing->text + listing->length, sizeof(listing->text) - listing->length, "%s%zu%s",
                       listing->length == 0 ? "" : " and ", listing->hidden, listing->length == 0 ? "" : " more");
    return listing->text;
}

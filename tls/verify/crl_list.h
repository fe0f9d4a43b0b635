/*
 * The entries of one CRL, checked and found by serial number: a hash table of four-byte offsets into the encoding, at
 * most half full, instead of an object for each. Immutable: any number of threads may look up.
 */
#ifndef TOKENTLS_TLS_VERIFY_CRL_LIST_H
#define TOKENTLS_TLS_VERIFY_CRL_LIST_H

#include "base/error.h"
#include "tls/verify/crl_entry.h"
#include "tls/verify/crl_parts.h"

#include <stdbool.h>
#include <stddef.h>

/* Entries of one CRL at the most: 8 bytes of memory each. */
#define CRL_ENTRIES_MAX ((size_t)5000000)

struct crl_list;

/*
 * Check every entry and build the table. `parts` is copied, what it points to must outlive the list. *ret is the
 * caller's (crl_list_free()). ERROR_VERIFY: an entry is not what RFC 5280 5.1 says, has too many bytes, or there are
 * too many, of all or of one serial number; the text names the entry and the byte of the CRL at which it begins. Takes
 * 0.1 s for a million entries.
 */
MUST_USE result crl_list_new(const struct crl_parts *parts, struct crl_list **ret, struct error *err);
void crl_list_free(struct crl_list *list); /* NULL is allowed */

/* Whether an entry speaks of the certificate in question: `owner` is the issuer that holds for it (encoded
 * GeneralNames, its own or that of an entry before it, RFC 5280 5.3.3); NULL: the CRL's own issuer. */
typedef bool crl_list_match_fn(void *arg, const struct der *owner);

/*
 * The first entry, in the CRL's order, that has this serial number (content of an INTEGER) and for which `match` says
 * true. False: there is none.
 */
bool crl_list_find(const struct crl_list *list, const struct der *serial, crl_list_match_fn *match, void *arg,
                   struct crl_entry *ret);

/* How many entries there are. */
size_t crl_list_count(const struct crl_list *list);

/* True when an entry names an issuer of its own. */
bool crl_list_is_indirect(const struct crl_list *list);

/* An entry with a critical extension that nobody here understands, or NULL (RFC 5280 5.3: such a CRL is not to be used
 * to find out who is good). */
const struct der *crl_list_critical(const struct crl_list *list);

#endif

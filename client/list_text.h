/* The listing for people. */
#ifndef TOKENTLS_CLIENT_LIST_TEXT_H
#define TOKENTLS_CLIENT_LIST_TEXT_H

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Print the tree of pkcs11/list.h as aligned text: tokens, the identities on them (a key with its certificate, days
 * left, a URI to paste), then keys and certificates that belong to no identity. `now`: UNIX seconds. What is missing in
 * the tree, or of another type, is left out. Control characters are shown as '?'.
 */
void list_text_print(const cJSON *tree, int64_t now, FILE *out);

#endif

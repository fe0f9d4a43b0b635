/* The answer of `tokentls probe` as aligned text for people, from the tree of client/probe_tree.h. */
#ifndef TOKENTLS_CLIENT_PROBE_TEXT_H
#define TOKENTLS_CLIENT_PROBE_TEXT_H

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdio.h>

/* Print the answer of a server that has given one. `now` (UNIX seconds) is what days are counted from. */
void probe_text_print(const cJSON *tree, int64_t now, FILE *out);

#endif

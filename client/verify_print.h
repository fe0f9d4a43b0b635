/* A verdict for people and for programs; docs/verify.md describes the JSON. */
#ifndef TOKENTLS_CLIENT_VERIFY_PRINT_H
#define TOKENTLS_CLIENT_VERIFY_PRINT_H

#include "base/error.h"
#include "tls/verify/chain.h"

#include <stdio.h>

/* Each certificate of the path with what was found out about it, then notes, then the verdict. */
void verify_print_text(const struct chain_request *request, const struct verdict *verdict, FILE *out);

/* The same as one JSON object and a newline. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result verify_print_json(const struct chain_request *request, const struct verdict *verdict, FILE *out,
                                  struct error *err);

#endif

/* A daemon's answers for people. What is missing, or of another type, is left out; control characters become '?'. */
#ifndef TOKENTLS_CLIENT_CONTROL_TEXT_H
#define TOKENTLS_CLIENT_CONTROL_TEXT_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stdio.h>

/* The daemon, its identities, keyholders and services, aligned. */
void control_text_status(const cJSON *answer, FILE *out);

/* A line for each identity: name, state, reason. */
void control_text_identities(const cJSON *answer, FILE *out);

/* What is wrong with a configuration, a line each; nothing when there is no such list. */
void control_text_errors(const cJSON *answer, FILE *out);

/* The answer as it came, indented. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result control_text_json(const cJSON *answer, FILE *out, struct error *err);

#endif

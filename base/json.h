/*
 * Reading members of a JSON object without asking first whether they are there: `object` may be NULL or no object, and
 * names are compared exactly. What is returned lives as long as `object`.
 */
#ifndef TOKENTLS_BASE_JSON_H
#define TOKENTLS_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>

/* The member, of any type; NULL: there is none. */
const cJSON *json_member(const cJSON *object, const char *name);

/* The member's text, borrowed; NULL: there is none, or it is not a string. */
const char *json_text(const cJSON *object, const char *name);

/* The member is `true`. */
bool json_true(const cJSON *object, const char *name);

/* The member's number; 0: there is none, or it is not one. */
double json_number(const cJSON *object, const char *name);

#endif

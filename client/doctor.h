/*
 * What `tokentls doctor` finds: one entry a check, collected as JSON (docs/doctor.md) and printed for people from it.
 * The checks are in doctor_*.c. One thread; they block.
 */
#ifndef TOKENTLS_CLIENT_DOCTOR_H
#define TOKENTLS_CLIENT_DOCTOR_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdio.h>

enum doctor_level { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM };

struct doctor {
    const char *area; /* of the checks that are being made: a static word */
    cJSON *findings;  /* owned */
    size_t n[DOCTOR_PROBLEM + 1];
};

/* Begin without findings. ERROR_INTERNAL when memory is exhausted. */
MUST_USE result doctor_start(struct doctor *doctor, struct error *err);

/* NULL is allowed. */
void doctor_end(struct doctor *doctor);

/*
 * Add a finding about `subject`. `fix`: what a person can do, NULL: nothing is to be done.
 * lint: a line of each check reads best in this order
 */
void doctor_say(struct doctor *doctor, enum doctor_level level, const char *subject, const char *fix, const char *fmt,
                ...) PRINTF_LIKE(5, 6);

/* Print the findings by area, then a last line with the numbers. */
void doctor_print_text(const struct doctor *doctor, FILE *out);

/* {"ok", "problems", "warnings", "findings": [{"area", "subject", "result", "text", "fix"}]} and a newline. */
MUST_USE result doctor_print_json(const struct doctor *doctor, FILE *out, struct error *err);

#endif

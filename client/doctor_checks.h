/* The checks of `tokentls doctor`, from the reader to the gateway. Each adds its findings; none fails. */
#ifndef TOKENTLS_CLIENT_DOCTOR_CHECKS_H
#define TOKENTLS_CLIENT_DOCTOR_CHECKS_H

#include "client/doctor.h"

#include <stdbool.h>
#include <stdint.h>

struct libctx;

/*
 * Have the daemon whose file it is check it (`--check --json`). Returns its settings (daemon/config_json.h) for the
 * caller to cJSON_Delete(), NULL when the file cannot be used.
 */
cJSON *doctor_config_check(struct doctor *doctor, const char *file);

/* Smartcard service: running? And may a service talk to it? `user`: who the daemon runs as, NULL: this one. */
void doctor_machine_check_reader(struct doctor *doctor, const char *user);

/* The clock: synchronised? */
void doctor_machine_check_clock(struct doctor *doctor);

struct doctor_token_config {
    const cJSON *identities; /* array of sections "identity"; NULL: all tokens of p11-kit's modules */
    const char *state_directory;
    bool test_signature; /* log in and sign */
    bool server;         /* the keys are those of a gateway */
};

/*
 * Modules (each in a child with a time-out), tokens, PIN sources, guard, certificates; with test_signature a signature
 * by each identity.
 */
void doctor_token_check(struct doctor *doctor, const struct doctor_token_config *config);

/* A PIN source as the configuration has it: there, and for nobody else's eyes? The PIN is not read. */
void doctor_token_check_pin_source(struct doctor *doctor, const char *name, const char *source);

/* Findings about one listed token (pkcs11/list.h) by itself: PIN state, days that certificates are still valid. */
void doctor_token_judge(struct doctor *doctor, const cJSON *token, int64_t now);

/* Trust anchors and CRLs of one service ("tunnel" or "gateway" section); `now`: UNIX seconds. */
void doctor_service_check_files(struct doctor *doctor, const cJSON *section, int64_t now);

/*
 * Each upstream of a tunnel: name, TCP, TLS up to the server's request for a certificate. Of a gateway: its backends,
 * up to TCP.
 */
void doctor_service_check_network(struct doctor *doctor, const cJSON *section);

#endif

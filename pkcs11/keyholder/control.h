/*
 * The messages between the supervisor and a keyholder on the control socket (descriptor 3 of the keyholder): JSON, one
 * object a packet, described in docs/keyholder-protocol.md.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_CONTROL_H
#define TOKENTLS_PKCS11_KEYHOLDER_CONTROL_H

#include "base/error.h"
#include "pkcs11/keyholder/start.h"

#include <stddef.h>

/* Descriptors a keyholder is started with. */
#define CONTROL_DESCRIPTOR 3
#define CONTROL_PIN_DESCRIPTOR 4 /* read end of a pipe that holds the PIN; only when there is one */

/* A decoded CONFIG; owns everything `config` points to. Of an order, its number only. */
struct control_config {
    struct keyholder_config config;
    uint64_t number;
    int pin_descriptor; /* -1: none */
    void *tree;
    struct keyholder_identity_config *identities;
};

enum control_request { CONTROL_CONFIG, CONTROL_LINK, CONTROL_CLEAR, CONTROL_LOCK };

/* Encoders: malloc'ed text that the caller frees, or NULL when memory is exhausted. module_environment is left out. */
char *control_encode_config(const struct keyholder_config *config, int pin_descriptor);
char *control_encode_link(void);
/* order: CLEAR or LOCK. */
char *control_encode_order(enum keyholder_order order, uint64_t number);
/* kind: KEYHOLDER_EVENT_STATE, KEYHOLDER_EVENT_HUNG or KEYHOLDER_EVENT_DONE. */
char *control_encode_event(const struct keyholder_event *event);

/*
 * Decode what a supervisor sends (`data` need not be terminated). CONTROL_CONFIG fills *ret_config (owned by the
 * caller, control_config_free()). ERROR_PROTOCOL for anything that is not exactly one of them.
 */
MUST_USE result control_decode_request(const void *data, size_t length, enum control_request *ret,
                                       struct control_config *ret_config, struct error *err);

/* Release what a decoded CONFIG owns. A zeroed one and NULL are allowed. */
void control_config_free(struct control_config *config);

/* Decode what a keyholder reports. ERROR_PROTOCOL for anything else. */
MUST_USE result control_decode_event(const void *data, size_t length, struct keyholder_event *ret, struct error *err);

#endif

/*
 * A keyholder that the command line starts to change a token: purposes `enrol` and `provision`. It does one job after
 * the other that comes over the control socket, and, for `enrol`, signs certificate requests over one link
 * (docs/keyholder-protocol.md, "Provisioning"). One thread; ends when the control socket ends.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_PROVISIONER_H
#define TOKENTLS_PKCS11_KEYHOLDER_PROVISIONER_H

#include "base/error.h"
#include "pkcs11/keyholder/start.h"

/* Keys of an enrolment, by their number in sign requests. */
#define PROVISIONER_KEY_NEW 0 /* the one just made; announced with its SubjectPublicKeyInfo in the chain's place */
#define PROVISIONER_KEY_OLD 1 /* the one it replaces */

/*
 * Serve until the control socket ends. `config` is borrowed; pin_descriptor: as of control.h. Returns ERROR_NONE at an
 * orderly end; ERROR_PROTOCOL for what is no job; ERROR_CONFIG for a PIN source that cannot be understood.
 */
MUST_USE result provisioner_run(const struct keyholder_config *config, int pin_descriptor, struct error *err);

#endif

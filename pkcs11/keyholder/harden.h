/* What the keyholder denies itself before it knows a PIN. */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_HARDEN_H
#define TOKENTLS_PKCS11_KEYHOLDER_HARDEN_H

#include "base/error.h"

/*
 * No core files, not dumpable (nobody of the same user attaches or reads /proc/PID/mem), no new privileges, files for
 * the owner only, dies with its parent. Before threads exist. ERROR_IO names what the system refuses.
 */
MUST_USE result harden_process(struct error *err);

/* The part of it that suits any process that is about to read a PIN: no core files, not dumpable. */
MUST_USE result harden_forbid_dumps(struct error *err);

#endif

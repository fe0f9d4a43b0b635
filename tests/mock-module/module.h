/*
 * The wrapper itself: a copy of the wrapped module's function list in which slots.c and session.c replace what faults
 * can touch; everything else goes straight to the wrapped module.
 */
#ifndef TOKENTLS_TESTS_MOCK_MODULE_MODULE_H
#define TOKENTLS_TESTS_MOCK_MODULE_MODULE_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* The wrapped module's functions; valid once C_GetFunctionList() has succeeded. */
CK_FUNCTION_LIST *module_real(void);

/*
 * First line of each wrapped function: notices a token that came or went, and counts calls that overlap although the
 * module said CKR_CANT_LOCK.
 */
#define MODULE_CALL __attribute__((cleanup(module_leave), unused)) int module_call = module_enter()
int module_enter(void);
void module_leave(int *unused);

/* Replace the functions about slots, tokens and mechanisms. */
void slots_install(CK_FUNCTION_LIST *list);

/* Close every session when the token has gone, has come back, or has moved to another slot since the last call. */
void slots_notice(void);

/* Has the token in this slot of the wrapped module been taken out? */
bool slots_gone(CK_SLOT_ID real);

/* The id the caller sees for a slot of the wrapped module, and back; false: no such slot now. */
CK_SLOT_ID slots_shown(CK_SLOT_ID real);
bool slots_hidden(CK_SLOT_ID shown, CK_SLOT_ID *ret_real);

/* CKR_MECHANISM_INVALID when a fault takes the mechanism away from C_SignInit, else CKR_OK. */
CK_RV slots_check_mechanism(CK_MECHANISM_TYPE mechanism);

/* Replace the functions about sessions, logins, objects and signatures. */
void session_install(CK_FUNCTION_LIST *list);

/* Replace the functions that change a token. */
void provision_install(CK_FUNCTION_LIST *list);

/* Close all sessions of a slot of the wrapped module / forget all sessions (C_Finalize). */
void session_close_slot(CK_SLOT_ID real);
void session_forget_all(void);

#endif

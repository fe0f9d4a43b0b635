/* Who has signed an OCSP response, and was he allowed to (RFC 6960 4.2.2.2). Part of ocsp_judge(). */
#ifndef TOKENTLS_TLS_VERIFY_OCSP_SIGNER_H
#define TOKENTLS_TLS_VERIFY_OCSP_SIGNER_H

#include "tls/verify/ocsp.h"

#include <openssl/ocsp.h>

/*
 * True when `basic` carries the signature of the certificate's issuer, or of a responder the issuer has authorised, by
 * algorithms that the policy accepts; ret->responder and ret->delegated say who. Otherwise ret->text and
 * ret->reference say why not. Any thread.
 */
bool ocsp_signer_check(const struct ocsp_question *question, const OCSP_BASICRESP *basic, struct ocsp_answer *ret);

#endif

/*
 * Verdicts that have been reached, for peers that come again with the same certificates: chain_verify() without
 * building and checking the path once more. It is a function of its request; so an accepting verdict is given again
 * while every argument is the same, down to the CRL snapshot and the order of what the peer sent, and while no date of
 * anything the verdict can rest on has passed. Rejections are reached anew each time. One thread.
 */
#ifndef TOKENTLS_TLS_VERIFY_REMEMBERED_H
#define TOKENTLS_TLS_VERIFY_REMEMBERED_H

#include "tls/verify/chain.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct remembered;

/* Verdicts at the most; the one not asked for the longest time makes room. */
#define REMEMBERED_MAX 256
/* Of one verdict: certificates besides the leaf, and bytes of all of them together. What is larger is not kept. */
#define REMEMBERED_CERTIFICATES_MAX 8
#define REMEMBERED_BYTES_MAX (16 * 1024)

/* Empty; NULL when memory is exhausted. */
MUST_USE struct remembered *remembered_new(void);

/* NULL is allowed. */
void remembered_free(struct remembered *memory);

/*
 * The verdict on this request, if it was kept and still holds: then true, and *ret is filled as by chain_verify(), with
 * ret->remembered set. Else false, and *ret is untouched. `now_us`: CLOCK_MONOTONIC, so that a verdict grows old too
 * when the clock of request->time is set back; set back further than the last request, it leaves nothing remembered. A
 * request whose settings (all but certificates, name, stapling and time) differ from the last one's, or with other
 * trust anchors or another CRL snapshot, leaves nothing remembered either. NULL memory: false.
 */
MUST_USE bool remembered_recall(struct remembered *memory, const struct chain_request *request, uint64_t now_us,
                                struct verdict *ret);

/*
 * Keep a verdict of chain_verify() on this request, which remembered_recall() has just not found; what is needed of
 * either is referenced or copied. Not kept: rejections; what an OCSP answer has been an argument of; requests with an
 * initial policy set. NULL memory is allowed.
 */
void remembered_keep(struct remembered *memory, const struct chain_request *request, uint64_t now_us,
                     const struct verdict *verdict);

/* Keep nothing that was kept, and let go of trust anchors and CRLs. NULL is allowed. */
void remembered_clear(struct remembered *memory);

/* How many are kept; some of them may not hold any more. */
size_t remembered_count(const struct remembered *memory);

#endif

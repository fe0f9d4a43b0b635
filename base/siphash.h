/*
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): a keyed hash for tables whose content a
 * stranger chooses, who must not be able to choose it so that everything falls into one place.
 */
#ifndef TOKENTLS_BASE_SIPHASH_H
#define TOKENTLS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0, k1; /* random, kept for as long as the table lives */
};

/* The hash of `length` bytes. Any thread. */
uint64_t siphash(const struct siphash_key *key, const uint8_t *data, size_t length);

#endif

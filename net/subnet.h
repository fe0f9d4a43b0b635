/* Networks in CIDR notation (RFC 4632, RFC 4291 2.3), to say who may do what. Any thread. */
#ifndef TOKENTLS_NET_SUBNET_H
#define TOKENTLS_NET_SUBNET_H

#include "base/error.h"
#include "net/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct subnet {
    uint8_t bytes[16]; /* IPv4 mapped into IPv6 (::ffff:0:0/96) */
    unsigned prefix;   /* bits of `bytes` that count */
};

/*
 * "10.0.0.0/8", "2001:db8::/32", or an address alone, which is a network of one. ERROR_CONFIG names what is wrong: no
 * such network, a prefix that is too long, bits beyond the prefix.
 */
MUST_USE result subnet_parse(const char *text, struct subnet *ret, struct error *err);

/* True when this is the address of an IP socket in one of `n` networks; IPv4 mapped into IPv6 counts as IPv4. */
bool subnet_contains(const struct subnet *subnets, size_t n, const struct address_socket *address);

#endif

/*
 * The PROXY protocol header, versions 1 and 2, with which a load balancer begins a connection that it passes on
 * (haproxy's proxy-protocol.txt, 2.1 and 2.2): who has called it, and where. Bytes in, addresses out; any thread.
 */
#ifndef TOKENTLS_NET_PROXY_PREFACE_H
#define TOKENTLS_NET_PROXY_PREFACE_H

#include "base/error.h"
#include "net/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a header at the most: version 1 with its CR LF (2.1), and what we take of version 2, which could have 64
 * KiB.
 */
#define PROXY_PREFACE_V1_MAX 107
#define PROXY_PREFACE_MAX 4096

enum proxy_preface_status { PROXY_PREFACE_DONE, PROXY_PREFACE_MORE, PROXY_PREFACE_BAD };

struct proxy_preface {
    size_t length;  /* bytes of the header */
    bool local;     /* LOCAL: the balancer calls for itself, to see whether we are there */
    bool passed_on; /* there are addresses; else (LOCAL, UNKNOWN, AF_UNSPEC) those of the connection itself count */
    struct address_socket source, destination;
};

/*
 * Look at the first `length` bytes of a connection. DONE: *ret is filled; what is beyond ret->length is not the
 * header's. MORE: all bytes are the header's, and it goes on. BAD: *err says why (ERROR_PROTOCOL): no PROXY header, one
 * that is malformed or too long, datagrams, a wrong checksum (PP2_TYPE_CRC32C). Of the other TLVs only the lengths are
 * looked at. *ret is untouched but for DONE.
 */
MUST_USE enum proxy_preface_status proxy_preface_parse(const uint8_t *data, size_t length, struct proxy_preface *ret,
                                                       struct error *err);

#endif

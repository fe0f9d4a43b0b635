/* What the backend is told of the client: the PROXY header made from the socket and the TLS connection. */
#ifndef TOKENTLS_GATEWAY_IDENTIFY_H
#define TOKENTLS_GATEWAY_IDENTIFY_H

#include "base/buffer.h"
#include "net/address.h"
#include "tls/connection.h"

struct identify {
    const struct address_socket *source, *destination;
    const struct connection_info *info;
    bool certificate; /* send the client's, too */
};

/* Append the PROXY v2 header to `ret` (PROXY_HEADER_MAX bytes are enough). ERROR_INTERNAL. */
MUST_USE result identify_put(const struct identify *who, struct buffer *ret, struct error *err);

#endif

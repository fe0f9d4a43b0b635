/*
 * Session secrets in a file for a packet analyser (--insecure-keylog): whoever has them reads the connection. Only
 * on explicit demand of a person; the environment variable SSLKEYLOGFILE has no effect.
 */
#ifndef TOKENTLS_TLS_KEYLOG_H
#define TOKENTLS_TLS_KEYLOG_H

#include "base/error.h"

#include <openssl/types.h>

struct keylog;

/*
 * Open `path` for appending, or create it (0600). ERROR_CONFIG when it is a symbolic link, no regular file, another
 * user's, has several names, or may be read or written by group or others; ERROR_IO when it cannot be opened. *ret is
 * owned by the caller.
 */
MUST_USE result keylog_open(const char *path, struct keylog **ret, struct error *err);

/* NULL is allowed. */
void keylog_close(struct keylog *keylog);

/* Have every connection of `context` write its secrets there; `keylog` must outlive them. NULL: nothing happens. */
void keylog_attach(struct keylog *keylog, SSL_CTX *context);

#endif

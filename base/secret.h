/*
 * A secret (a PIN, keys of session tickets): memory that is locked, kept out of core files and forks, and wiped when
 * freed. There is no copy function and no way to format it; what must see the bytes asks for them in one place.
 */
#ifndef TOKENTLS_BASE_SECRET_H
#define TOKENTLS_BASE_SECRET_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Longest secret in bytes: far beyond any PIN a token takes. */
#define SECRET_MAX 1024

struct secret;

/* A new empty secret, owned by the caller, or NULL with *err set (memory cannot be had or locked). */
MUST_USE struct secret *secret_new(struct error *err);

/* Wipe and release. NULL is allowed. */
void secret_free(struct secret *secret);

/*
 * Read from `fd` until end of file or a newline into the secret (which is emptied first). A final CR/LF is dropped;
 * more than SECRET_MAX bytes and an embedded NUL are refused (ERROR_PIN). Blocks. The text never holds the content.
 */
MUST_USE result secret_read(struct secret *secret, int fd, struct error *err);

/* Take the bytes from `from` and wipe them there (for environment variables). ERROR_PIN when longer than SECRET_MAX. */
MUST_USE result secret_take(struct secret *secret, char *from, size_t length, struct error *err);

/* The same for bytes that are no text: all of them, as they are. */
MUST_USE result secret_take_bytes(struct secret *secret, void *from, size_t length, struct error *err);

/*
 * Receive one packet from a socket that keeps packets apart: its first bytes, `size` of them exactly, into `head`, the
 * rest straight into the secret. ERROR_CLOSED: the other side is gone; ERROR_PROTOCOL: the packet is shorter than
 * `size`, or longer than a secret can be; ERROR_PIN as secret_read(); ERROR_IO: nothing there on a socket that does not
 * block, or errno.
 */
MUST_USE result secret_receive(struct secret *secret, int socket, void *head, size_t size, struct error *err);

/* Empty and wipe, but keep the memory for use. */
void secret_clear(struct secret *secret);

/* The bytes (valid until the next call on the secret) and their number. To be passed on to what it is for only. */
const uint8_t *secret_bytes(const struct secret *secret);
size_t secret_length(const struct secret *secret);

/* Wipe memory in a way the compiler keeps. */
void secret_wipe(void *memory, size_t length);

#endif

/*
 * A file of ticket keys, as several machines share them: text, one key a line, 80 bytes in base64 (108 characters, as
 * `openssl rand 80 | openssl base64 -A` prints them): 16 bytes of name, 32 for AES-256, 32 for HMAC-SHA256. The first
 * key seals tickets, all of them open such. Empty lines and lines that begin with '#' do not count.
 */
#ifndef TOKENTLS_TLS_TICKET_KEY_FILE_H
#define TOKENTLS_TLS_TICKET_KEY_FILE_H

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>
#include <stdint.h>

#define TICKET_KEY_FILE_KEY 80          /* bytes of a key, its name first */
#define TICKET_KEY_FILE_LINE 108        /* characters of a line */
#define TICKET_KEY_FILE_MAX (16 * 1024) /* bytes of the file */

/* Open such a file: *ret_fd is the caller's. ERROR_CONFIG names it and says why not. */
MUST_USE result ticket_key_file_open(const char *path, int *ret_fd, struct error *err);

/*
 * The keys of a file as one secret, one behind the other, TICKET_KEYS_MAX of them at the most. It must be a regular
 * file that nobody but its owner may read (ERROR_CONFIG, as everything that is wrong with its content; the text has the
 * number of the line and nothing of what is there); ERROR_IO: it cannot be read. On failure `ret` is undefined. Blocks.
 */
MUST_USE result ticket_key_file_read(int fd, const char *name, struct secret *ret, struct error *err);

/* The same of text in memory, which is wiped. */
MUST_USE result ticket_key_file_parse(char *text, size_t length, const char *name, struct secret *ret,
                                      struct error *err);

#endif

/* The files that a configured path of CRLs stands for: itself, or what lies in the folder. */
#ifndef TOKENTLS_TLS_VERIFY_CRL_FILE_H
#define TOKENTLS_TLS_VERIFY_CRL_FILE_H

#include "base/error.h"
#include "base/image.h"

/* Bytes of a CRL file at the most: five times a CRL of a million entries, or four of them as PEM. */
#define CRL_FILE_MAX ((size_t)256 << 20)

/* Takes the content of one file, borrowed; anything but ERROR_NONE ends the walk and is its result. */
typedef result crl_file_fn(void *arg, const char *path, struct image *content, struct error *err);

/*
 * Read the file at `path`, or, of a folder, every regular file whose name does not begin with a dot, sorted by name,
 * and call `each`. ERROR_IO names the path. Blocks; not on a loop.
 */
MUST_USE result crl_file_each(const char *path, crl_file_fn *each, void *arg, struct error *err);

#endif

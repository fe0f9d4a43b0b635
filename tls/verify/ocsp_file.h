/* A stored OCSP response: a file with one, DER as responders send it, or PEM ("OCSP RESPONSE"). */
#ifndef TOKENTLS_TLS_VERIFY_OCSP_FILE_H
#define TOKENTLS_TLS_VERIFY_OCSP_FILE_H

#include "base/file.h"

/*
 * The response as DER; *ret is the caller's (file_content_free()). ERROR_IO when the file cannot be read, ERROR_VERIFY
 * when it holds no OCSP response or more than one; the text names the path. Whether it is a good one is ocsp_judge()'s
 * to say. Blocks for the time of reading a small file.
 */
MUST_USE result ocsp_file_load(const char *path, struct file_content *ret, struct error *err);

#endif

/*
 * Bytes that stay as they were read, whatever happens to the file: large ones in sealed memory (memfd_create(2)) that
 * is mapped for reading, small ones on the heap. A mapping of the file itself would end the process (SIGBUS) when
 * somebody cuts the file off in place.
 */
#ifndef TOKENTLS_BASE_IMAGE_H
#define TOKENTLS_BASE_IMAGE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* From so many bytes on an image has a mapping of its own, which counts as shared memory (RssShmem), not as private. */
#define IMAGE_MAPPED_MIN ((size_t)256 << 10)

struct image;

/*
 * What the regular file behind `fd` holds from its current position on, `max` bytes at most; the descriptor stays the
 * caller's, `name` is for messages. *ret is the caller's (image_free()). ERROR_IO: it cannot be read, is larger, or
 * grew meanwhile. Blocks.
 */
MUST_USE result image_read_fd(int fd, const char *name, size_t max, struct image **ret, struct error *err);

/* As image_read_fd() for the regular file at `path`. */
MUST_USE result image_read(const char *path, size_t max, struct image **ret, struct error *err);

/* A copy of `length` bytes. */
MUST_USE result image_copy(const void *data, size_t length, struct image **ret, struct error *err);

/* Its bytes, for as long as somebody holds it. */
const uint8_t *image_data(const struct image *image, size_t *ret_length);

/* Reference counting; any thread. NULL is allowed. */
struct image *image_ref(struct image *image);
void image_free(struct image *image);

#endif

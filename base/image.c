#include "base/image.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct image {
    atomic_uint references;
    uint8_t *data;
    size_t length; /* bytes */
    bool mapped;
};

/* Memory that is being filled. */
struct draft {
    int fd; /* -1: on the heap */
    uint8_t *data;
    size_t size; /* bytes */
};

static void draft_free(struct draft *draft)
{
    if (draft->fd < 0) {
        free(draft->data);
        return;
    }
    if (draft->data != NULL)
        (void)munmap(draft->data, draft->size);
    (void)close(draft->fd);
}

static result draft_open(size_t size, struct draft *ret, struct error *err)
{
    struct draft draft = {.fd = -1, .size = size};
    int errnum;

    if (size < IMAGE_MAPPED_MIN) {
        draft.data = malloc(size + 1);
        if (draft.data == NULL)
            return error_set(err, ERROR_INTERNAL, "out of memory");
        *ret = draft;
        return ERROR_NONE;
    }
    draft.fd = memfd_create("tokentls-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (draft.fd < 0)
        return error_set_errno(err, errno, "no memory for %zu bytes", size);
    if (ftruncate(draft.fd, (off_t)size) != 0)
        goto err0;
    draft.data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, draft.fd, 0);
    if (draft.data == MAP_FAILED) {
        draft.data = NULL;
        goto err0;
    }
    *ret = draft;
    return ERROR_NONE;

err0:
    errnum = errno;
    draft_free(&draft);
    return error_set_errno(err, errnum, "no memory for %zu bytes", size);
}

/* The kernel seals against writing only what nobody has mapped for writing. */
static result seal(struct draft *draft, size_t length, struct error *err)
{
    uint8_t *data;

    (void)munmap(draft->data, draft->size);
    draft->data = NULL;
    if (ftruncate(draft->fd, (off_t)length) != 0 || fcntl(draft->fd, F_ADD_SEALS, SEALS) != 0)
        return error_set_errno(err, errno, "the memory cannot be sealed");
    data = mmap(NULL, length, PROT_READ, MAP_SHARED, draft->fd, 0);
    if (data == MAP_FAILED)
        return error_set_errno(err, errno, "the memory cannot be mapped");
    draft->data = data;
    draft->size = length;
    return ERROR_NONE;
}

/* Takes the draft over, on failure too. */
static result finish(struct draft *draft, size_t length, struct image **ret, struct error *err)
{
    struct image *image = calloc(1, sizeof(*image));
    bool mapped = draft->fd >= 0 && length > 0;
    result r = ERROR_NONE;

    if (image == NULL)
        r = error_set(err, ERROR_INTERNAL, "out of memory");
    else if (mapped)
        r = seal(draft, length, err);
    if (r != ERROR_NONE || image == NULL) {
        draft_free(draft);
        free(image);
        return r;
    }
    atomic_init(&image->references, 1);
    image->length = length;
    image->mapped = mapped;
    if (mapped || draft->fd < 0)
        image->data = draft->data;
    else
        draft_free(draft);
    if (mapped)
        (void)close(draft->fd);
    *ret = image;
    return ERROR_NONE;
}

/* How many bytes came; one more than `size` when there are more. -1: errno says why. */
static ssize_t fill(int fd, uint8_t *data, size_t size)
{
    size_t used = 0;
    uint8_t more;

    for (;;) {
        ssize_t n = used < size ? read(fd, data + used, size - used) : read(fd, &more, 1);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        used += (size_t)n;
        if (n == 0 || used > size)
            return (ssize_t)used;
    }
}

result image_read_fd(int fd, const char *name, size_t max, struct image **ret, struct error *err)
{
    struct draft draft = {.fd = -1};
    struct stat status;
    ssize_t length;
    size_t size;
    result r;

    if (fstat(fd, &status) != 0)
        return error_set_errno(err, errno, "%s: cannot stat", name);
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_IO, "%s: not a regular file", name);
    if ((uintmax_t)status.st_size > max)
        return error_set(err, ERROR_IO, "%s: larger than the limit of %zu bytes", name, max);
    size = (size_t)status.st_size;
    r = draft_open(size, &draft, err);
    if (r != ERROR_NONE) {
        error_prefix(err, "%s", name);
        return r;
    }
    length = fill(fd, draft.data, size);
    if (length < 0 || (size_t)length > size) {
        r = length < 0 ? error_set_errno(err, errno, "%s: cannot read", name)
                       : error_set(err, ERROR_IO, "%s: it grew while it was read", name);
        draft_free(&draft);
        return r;
    }
    r = finish(&draft, (size_t)length, ret, err);
    if (r != ERROR_NONE)
        error_prefix(err, "%s", name);
    return r;
}

result image_read(const char *path, size_t max, struct image **ret, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    result r;

    if (fd < 0)
        return error_set_errno(err, errno, "%s: cannot open", path);
    r = image_read_fd(fd, path, max, ret, err);
    (void)close(fd);
    return r;
}

result image_copy(const void *data, size_t length, struct image **ret, struct error *err)
{
    struct draft draft = {.fd = -1};
    result r = draft_open(length, &draft, err);

    if (r != ERROR_NONE || draft.data == NULL)
        return r;
    if (length > 0)
        memcpy(draft.data, data, length);
    return finish(&draft, length, ret, err);
}

const uint8_t *image_data(const struct image *image, size_t *ret_length)
{
    *ret_length = image->length;
    return image->data;
}

struct image *image_ref(struct image *image)
{
    if (image != NULL)
        atomic_fetch_add(&image->references, 1);
    return image;
}

void image_free(struct image *image)
{
    if (image == NULL || atomic_fetch_sub(&image->references, 1) != 1)
        return;
    if (image->mapped)
        (void)munmap(image->data, image->length);
    else
        free(image->data);
    free(image);
}

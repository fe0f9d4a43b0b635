#include "tests/mock-module/counters.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct record {
    char name[COUNTERS_NAME_MAX];
    _Atomic uint64_t total;
    _Atomic uint64_t turns;
};

struct file {
    char magic[16];
    uint32_t n_records;
    uint32_t unused;
    _Atomic uint64_t generation;
    char padding[32];
    struct record records[COUNTERS_RECORDS];
};
_Static_assert(sizeof(struct record) == 64, "faults.py reads records of 64 bytes");
_Static_assert(sizeof(struct file) == 64 + 64 * COUNTERS_RECORDS, "faults.py reads a header of 64 bytes");

static const char magic[16] = "tokentls-faults";
static struct file *counters;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "tokentls-faults: counters %s: %s: %s\n", path, what, strerror(errno));
    abort();
}

static struct file *map_file(const char *path)
{
    struct stat st;
    struct file *file;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    if (fd < 0)
        die("open", path);
    if (flock(fd, LOCK_EX) != 0 || fstat(fd, &st) != 0)
        die("lock", path);
    if ((size_t)st.st_size < sizeof *file && ftruncate(fd, (off_t)sizeof *file) != 0)
        die("resize", path);
    file = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED)
        die("map", path);
    /* The mapping would keep the lock. The names are the same whoever writes them. */
    (void)flock(fd, LOCK_UN);
    close(fd);
    return file;
}

void counters_open(const char *const *names, unsigned n)
{
    const char *path = getenv("TOKENTLS_FAULTS_COUNTERS");

    if (counters)
        return;
    if (path && *path)
        counters = map_file(path);
    else
        counters = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (counters == MAP_FAILED || n > COUNTERS_RECORDS)
        die("too many records or no memory", path ? path : "(private)");
    memcpy(counters->magic, magic, sizeof magic);
    counters->n_records = n;
    for (unsigned i = 0; i < n; i++)
        strncpy(counters->records[i].name, names[i], COUNTERS_NAME_MAX - 1);
}

void counters_add(unsigned record)
{
    atomic_fetch_add(&counters->records[record].total, 1);
}

uint64_t counters_turn(unsigned record)
{
    return atomic_fetch_add(&counters->records[record].turns, 1);
}

void counters_generation(uint64_t generation)
{
    uint64_t before = atomic_exchange(&counters->generation, generation);

    if (before == generation)
        return;
    for (unsigned i = 0; i < COUNTERS_RECORDS; i++)
        atomic_store(&counters->records[i].turns, 0);
}

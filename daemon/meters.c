#include "daemon/meters.h"

#include "daemon/tolerated.h"
#include "tls/verify/verdict.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct shared_histogram {
    atomic_uint_fast64_t count, sum_us, classes[HISTOGRAM_CLASSES];
};

/* A mechanism's place is taken by the first who makes `taken` 1; its name may be read when it is 2. */
struct shared_mechanism {
    atomic_uint taken;
    char name[32];
    atomic_uint_fast64_t signatures;
};

struct shared {
    atomic_uint_fast64_t open[METERS_GENERATIONS_MAX], results[METERS_RESULTS], bytes_in, bytes_out;
    struct shared_histogram full, resumed;
    atomic_uint_fast64_t accepted, remembered, tolerated, refused[METERS_CHECKS_MAX];
    atomic_uint failure_turn; /* odd while the text is being written */
    char failure[METERS_REASON_MAX];
    atomic_int_fast64_t failure_time;
    struct shared_mechanism mechanisms[METERS_MECHANISMS_MAX];
    atomic_uint_fast64_t not_signed;
    struct shared_histogram sign;
    atomic_uint crls_turn; /* odd while the CRLs are being written */
    struct meters_crls crls;
    atomic_int state; /* + 1, so that zeroed memory says that nothing was heard */
    atomic_int_fast64_t not_after;
    atomic_uint_fast64_t warm_wanted, warm_ready[METERS_GENERATIONS_MAX], warm_used, warm_missed, warm_failed;
    atomic_uint_fast64_t warm_dropped[METERS_WARM_ENDS];
};

struct meters {
    int fd;
    struct shared *shared;
};

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* The last one takes what has no place of its own. */
static const char *const checks[] = {
    "algorithms", "authorisation", "basic-constraints", "certificate", "chain", "depth",  "extensions", "form",
    "key-usage",  "name",          "name-constraints",  "names",       "pin",   "policy", "revocation", "serial-number",
    "signature",  "stapling",      "validity",          "version",     "other"};
#define CHECKS (sizeof(checks) / sizeof(checks[0]))
_Static_assert(CHECKS <= METERS_CHECKS_MAX, "METERS_CHECKS_MAX is too small");

const char *meters_check(size_t index)
{
    return index < CHECKS ? checks[index] : NULL;
}

static struct meters *map(int fd, struct error *err)
{
    struct meters *meters = calloc(1, sizeof(*meters));

    if (meters == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        goto err0;
    }
    meters->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (meters->shared == MAP_FAILED) {
        (void)error_set(err, ERROR_INTERNAL, "memory for counters cannot be mapped");
        goto err1;
    }
    meters->fd = fd;
    return meters;

err1:
    free(meters);
err0:
    (void)close(fd);
    return NULL;
}

struct meters *meters_new(struct error *err)
{
    int fd = memfd_create("tokentls-meters", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, sizeof(struct shared)) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        (void)error_set(err, ERROR_INTERNAL, "no memory for counters");
        if (fd >= 0)
            (void)close(fd);
        return NULL;
    }
    return map(fd, err);
}

int meters_fd(const struct meters *meters)
{
    return meters->fd;
}

struct meters *meters_open(int fd, struct error *err)
{
    struct stat status;
    struct meters *meters;

    if (fstat(fd, &status) != 0 || status.st_size != (off_t)sizeof(struct shared) ||
        (fcntl(fd, F_GET_SEALS) & SEALS) != SEALS) {
        (void)error_set(err, ERROR_PROTOCOL, "this is no memory for counters");
        (void)close(fd);
        return NULL;
    }
    meters = map(fd, err);
    /* Who wrote a text when its process was killed does not go on writing. */
    if (meters != NULL && (atomic_load(&meters->shared->failure_turn) & 1U) != 0)
        atomic_fetch_add(&meters->shared->failure_turn, 1);
    if (meters != NULL && (atomic_load(&meters->shared->crls_turn) & 1U) != 0)
        atomic_fetch_add(&meters->shared->crls_turn, 1);
    return meters;
}

void meters_free(struct meters *meters)
{
    if (meters == NULL)
        return;
    (void)munmap(meters->shared, sizeof(struct shared));
    (void)close(meters->fd);
    free(meters);
}

static void add(atomic_uint_fast64_t *to, uint64_t n)
{
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static uint64_t get(const atomic_uint_fast64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static void count_duration(struct shared_histogram *histogram, uint64_t us)
{
    add(&histogram->classes[histogram_class(us)], 1);
    add(&histogram->sum_us, us);
    add(&histogram->count, 1);
}

/* Two failures at the same moment: one of them is told. */
static void note_failure(struct shared *shared, const char *reason)
{
    unsigned turn = atomic_load(&shared->failure_turn);

    if ((turn & 1U) != 0 || !atomic_compare_exchange_strong(&shared->failure_turn, &turn, turn + 1))
        return;
    (void)strncpy(shared->failure, reason == NULL ? "" : reason, sizeof(shared->failure) - 1);
    atomic_store(&shared->failure_time, (int_fast64_t)time(NULL));
    atomic_store(&shared->failure_turn, turn + 2);
}

void meters_opened(struct meters *meters, unsigned generation)
{
    if (meters == NULL)
        return;
    add(&meters->shared->open[generation % METERS_GENERATIONS_MAX], 1);
}

void meters_closed(struct meters *meters, unsigned generation, enum record_result how, const char *reason)
{
    if (meters == NULL)
        return;
    atomic_fetch_sub_explicit(&meters->shared->open[generation % METERS_GENERATIONS_MAX], 1, memory_order_relaxed);
    add(&meters->shared->results[how], 1);
    if (how == RECORD_FAILED || how == RECORD_REFUSED || how == RECORD_LOST)
        note_failure(meters->shared, reason);
}

void meters_turned_away(struct meters *meters, const char *reason)
{
    if (meters == NULL)
        return;
    add(&meters->shared->results[RECORD_LIMIT], 1);
    note_failure(meters->shared, reason);
}

void meters_bytes(struct meters *meters, uint64_t in, uint64_t out)
{
    if (meters == NULL)
        return;
    add(&meters->shared->bytes_in, in);
    add(&meters->shared->bytes_out, out);
}

void meters_handshake(struct meters *meters, bool resumed, uint64_t us)
{
    if (meters == NULL)
        return;
    count_duration(resumed ? &meters->shared->resumed : &meters->shared->full, us);
}

void meters_verdict(struct meters *meters, const struct verdict *verdict)
{
    size_t i = 0;

    if (meters == NULL)
        return;
    if (verdict->accepted) {
        add(&meters->shared->accepted, 1);
        add(&meters->shared->remembered, verdict->remembered ? 1 : 0);
        add(&meters->shared->tolerated, tolerated_count(verdict));
        return;
    }
    while (i < CHECKS - 1 && strcmp(checks[i], verdict->reason.check) != 0)
        i++;
    add(&meters->shared->refused[i], 1);
}

void meters_generation_ended(struct meters *meters, unsigned generation)
{
    if (meters == NULL)
        return;
    atomic_store(&meters->shared->open[generation % METERS_GENERATIONS_MAX], 0);
    atomic_store(&meters->shared->warm_ready[generation % METERS_GENERATIONS_MAX], 0);
}

const char *meters_warm_name(enum meters_warm why)
{
    static const char *const names[METERS_WARM_ENDS] = {
        [METERS_WARM_AGE] = "age",       [METERS_WARM_CLOSED] = "closed",     [METERS_WARM_REFUSED] = "refused",
        [METERS_WARM_BROKEN] = "broken", [METERS_WARM_IDENTITY] = "identity", [METERS_WARM_VERDICT] = "verdict",
        [METERS_WARM_ENDED] = "ended"};

    return names[why];
}

void meters_warm_wanted(struct meters *meters, uint64_t n)
{
    if (meters != NULL)
        atomic_store(&meters->shared->warm_wanted, n);
}

void meters_warm_ready(struct meters *meters, unsigned generation, bool more)
{
    atomic_uint_fast64_t *ready;

    if (meters == NULL)
        return;
    ready = &meters->shared->warm_ready[generation % METERS_GENERATIONS_MAX];
    if (more)
        add(ready, 1);
    else
        atomic_fetch_sub_explicit(ready, 1, memory_order_relaxed);
}

void meters_warm_asked(struct meters *meters, bool found)
{
    if (meters != NULL)
        add(found ? &meters->shared->warm_used : &meters->shared->warm_missed, 1);
}

void meters_warm_dropped(struct meters *meters, enum meters_warm why)
{
    if (meters != NULL)
        add(&meters->shared->warm_dropped[why], 1);
}

void meters_warm_failed(struct meters *meters, const char *reason)
{
    if (meters == NULL)
        return;
    add(&meters->shared->warm_failed, 1);
    note_failure(meters->shared, reason);
}

/* The place of a mechanism; the last one is shared by all that come too late. */
static struct shared_mechanism *find_mechanism(struct shared *shared, const char *name)
{
    for (size_t i = 0; i < METERS_MECHANISMS_MAX; i++) {
        struct shared_mechanism *one = &shared->mechanisms[i];
        unsigned nobody = 0;

        if (atomic_compare_exchange_strong(&one->taken, &nobody, 1)) {
            (void)strncpy(one->name, i == METERS_MECHANISMS_MAX - 1 ? "other" : name, sizeof(one->name) - 1);
            atomic_store(&one->taken, 2);
        }
        if (i == METERS_MECHANISMS_MAX - 1 ||
            (atomic_load(&one->taken) == 2 && strncmp(one->name, name, sizeof(one->name) - 1) == 0))
            return one;
    }
    return NULL;
}

void meters_signed(struct meters *meters, const char *mechanism, uint64_t us)
{
    struct shared_mechanism *one;

    if (meters == NULL)
        return;
    one = find_mechanism(meters->shared, mechanism);
    add(&one->signatures, 1);
    count_duration(&meters->shared->sign, us);
}

void meters_not_signed(struct meters *meters)
{
    if (meters == NULL)
        return;
    add(&meters->shared->not_signed, 1);
}

void meters_identity(struct meters *meters, int state, int64_t not_after)
{
    if (meters == NULL)
        return;
    atomic_store(&meters->shared->state, state + 1);
    atomic_store(&meters->shared->not_after, not_after);
}

static void read_histogram(const struct shared_histogram *from, struct histogram *to)
{
    to->count = 0;
    to->sum_us = get(&from->sum_us);
    for (size_t i = 0; i < HISTOGRAM_CLASSES; i++) {
        to->classes[i] = get(&from->classes[i]);
        to->count += to->classes[i];
    }
}

/* Text that another process may be writing, or have filled with anything. */
static void read_text(const char *from, size_t size, char *to)
{
    memmove(to, from, size);
    to[size - 1] = '\0';
    for (char *at = to; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
            *at = '?';
    }
}

static void read_failure(const struct shared *shared, struct meters_reading *ret)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        unsigned turn = atomic_load(&shared->failure_turn);

        read_text(shared->failure, sizeof(ret->last_failure), ret->last_failure);
        if ((turn & 1U) == 0 && atomic_load(&shared->failure_turn) == turn)
            break;
    }
    ret->last_failure_time = atomic_load(&shared->failure_time);
}

void meters_read(const struct meters *meters, struct meters_reading *ret)
{
    const struct shared *shared;

    *ret = (struct meters_reading){.state = -1};
    if (meters == NULL)
        return;
    shared = meters->shared;
    *ret = (struct meters_reading){.bytes_in = get(&shared->bytes_in),
                                   .bytes_out = get(&shared->bytes_out),
                                   .accepted = get(&shared->accepted),
                                   .remembered = get(&shared->remembered),
                                   .tolerated = get(&shared->tolerated),
                                   .not_signed = get(&shared->not_signed),
                                   .warm_wanted = get(&shared->warm_wanted),
                                   .warm_used = get(&shared->warm_used),
                                   .warm_missed = get(&shared->warm_missed),
                                   .warm_failed = get(&shared->warm_failed),
                                   .state = atomic_load(&shared->state) - 1,
                                   .not_after = atomic_load(&shared->not_after)};
    for (size_t i = 0; i < METERS_GENERATIONS_MAX; i++) {
        ret->open += get(&shared->open[i]);
        ret->warm_ready += get(&shared->warm_ready[i]);
    }
    for (size_t i = 0; i < METERS_WARM_ENDS; i++)
        ret->warm_dropped[i] = get(&shared->warm_dropped[i]);
    for (size_t i = 0; i < METERS_RESULTS; i++)
        ret->results[i] = get(&shared->results[i]);
    for (size_t i = 0; i < CHECKS; i++)
        ret->refused[i] = get(&shared->refused[i]);
    read_histogram(&shared->full, &ret->full);
    read_histogram(&shared->resumed, &ret->resumed);
    read_histogram(&shared->sign, &ret->sign);
    read_failure(shared, ret);
    for (size_t i = 0; i < METERS_MECHANISMS_MAX && atomic_load(&shared->mechanisms[i].taken) == 2; i++) {
        struct meters_mechanism *one = &ret->mechanisms[ret->n_mechanisms++];

        read_text(shared->mechanisms[i].name, sizeof(one->name), one->name);
        one->signatures = get(&shared->mechanisms[i].signatures);
    }
}

int meters_state(const struct meters *meters)
{
    return meters == NULL ? -1 : atomic_load(&meters->shared->state) - 1;
}

/* Two generations may have news at the same time; what they say is the same. */
void meters_crls(struct meters *meters, const struct meters_crls *crls)
{
    unsigned turn;

    if (meters == NULL)
        return;
    turn = atomic_load(&meters->shared->crls_turn);
    if ((turn & 1U) != 0 || !atomic_compare_exchange_strong(&meters->shared->crls_turn, &turn, turn + 1))
        return;
    memcpy(&meters->shared->crls, crls, sizeof(*crls));
    atomic_fetch_add(&meters->shared->crls_turn, 1);
}

void meters_read_crls(const struct meters *meters, struct meters_crls *ret)
{
    ret->n = ret->total = 0;
    for (int attempt = 0; meters != NULL && attempt < 3; attempt++) {
        unsigned turn = atomic_load(&meters->shared->crls_turn);

        memcpy(ret, &meters->shared->crls, sizeof(*ret));
        if ((turn & 1U) == 0 && atomic_load(&meters->shared->crls_turn) == turn)
            break;
    }
    if (ret->n > METERS_CRLS_MAX)
        ret->n = METERS_CRLS_MAX;
    for (size_t i = 0; i < ret->n; i++) {
        struct meters_crl *crl = &ret->items[i];

        read_text(crl->source, sizeof(crl->source), crl->source);
        read_text(crl->issuer, sizeof(crl->issuer), crl->issuer);
        read_text(crl->number, sizeof(crl->number), crl->number);
    }
}

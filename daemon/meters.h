/*
 * What is counted of one service or one identity, in memory that the supervisor shares with the network processes of
 * all generations: so counts go on over a reload and a crash, and both `tokentls status` and the metrics page read
 * them. Adding is for any thread and never waits. What is read is checked by nobody: it may inform a person, and
 * decides nothing.
 */
#ifndef TOKENTLS_DAEMON_METERS_H
#define TOKENTLS_DAEMON_METERS_H

#include "base/error.h"
#include "base/histogram.h"
#include "daemon/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct meters;
struct verdict; /* tls/verify/verdict.h */

/* Network processes at the same time: the open connections of each are counted by themselves, since one may crash. */
#define METERS_GENERATIONS_MAX 32
#define METERS_REASON_MAX 256
#define METERS_MECHANISMS_MAX 8
#define METERS_CHECKS_MAX 32
#define METERS_RESULTS (RECORD_CHECK + 1)

/* New, all zero; NULL with *err set on failure. */
MUST_USE struct meters *meters_new(struct error *err);

/* Its memory, to be passed to another process; stays the meters'. */
int meters_fd(const struct meters *meters);

/*
 * The meters behind such a descriptor, which is taken over, on failure too. ERROR_PROTOCOL unless its size is sealed:
 * otherwise whoever shares it could make us crash.
 */
MUST_USE struct meters *meters_open(int fd, struct error *err);
void meters_free(struct meters *meters); /* NULL is allowed */

/* Services. `generation` is the number that the supervisor gave this network process. */
void meters_opened(struct meters *meters, unsigned generation);
void meters_closed(struct meters *meters, unsigned generation, enum record_result how, const char *reason);
void meters_turned_away(struct meters *meters, const char *reason); /* a limit; it was never opened */
void meters_bytes(struct meters *meters, uint64_t in, uint64_t out);
void meters_handshake(struct meters *meters, bool resumed, uint64_t us);
void meters_verdict(struct meters *meters, const struct verdict *verdict);
void meters_generation_ended(struct meters *meters, unsigned generation); /* what it had open is not any more */

/* Connections that a tunnel keeps ready. How one came to its end without a client: */
enum meters_warm {
    METERS_WARM_AGE,      /* it was replaced before the server would close it */
    METERS_WARM_CLOSED,   /* the server closed it */
    METERS_WARM_REFUSED,  /* the server refused us after the handshake */
    METERS_WARM_BROKEN,   /* network failure, or bytes that are no TLS */
    METERS_WARM_IDENTITY, /* an identity of the tunnel was removed, locked, or changed */
    METERS_WARM_VERDICT,  /* the server's chain does not pass any more: revoked, expired */
    METERS_WARM_ENDED     /* drained, reloaded, stopped */
};
#define METERS_WARM_ENDS (METERS_WARM_ENDED + 1)

/* So many are to be kept, in all workers; 0: none. */
void meters_warm_wanted(struct meters *meters, uint64_t n);

/* `more`: one is ready to be given out, else one is not any more. */
void meters_warm_ready(struct meters *meters, unsigned generation, bool more);
void meters_warm_asked(struct meters *meters, bool found); /* a client: one was ready for it, or not */
void meters_warm_dropped(struct meters *meters, enum meters_warm why);
void meters_warm_failed(struct meters *meters, const char *reason); /* one could not be made */

/* "age", "closed", ... for labels; static. */
const char *meters_warm_name(enum meters_warm why);

/* Identities. */
void meters_signed(struct meters *meters, const char *mechanism, uint64_t us);
void meters_not_signed(struct meters *meters);
void meters_identity(struct meters *meters, int state, int64_t not_after); /* enum token_state; 0: no certificate */

struct meters_mechanism {
    char name[32];
    uint64_t signatures;
};

/* What one meter says at this moment. */
struct meters_reading {
    uint64_t open, results[METERS_RESULTS], bytes_in, bytes_out;
    struct histogram full, resumed;
    uint64_t accepted;
    uint64_t remembered;                  /* of these: verdicts that had been reached before */
    uint64_t tolerated;                   /* certificates of accepted peers whose revocation status was not known */
    char last_failure[METERS_REASON_MAX]; /* printable; "" when none has failed */
    int64_t last_failure_time;            /* UNIX seconds */
    struct meters_mechanism mechanisms[METERS_MECHANISMS_MAX];
    size_t n_mechanisms;
    uint64_t not_signed;
    struct histogram sign;
    int state;                           /* enum token_state; -1: nothing was heard */
    int64_t not_after;                   /* UNIX seconds; 0: no certificate */
    uint64_t refused[METERS_CHECKS_MAX]; /* by check, as meters_check() names them */
    uint64_t warm_wanted, warm_ready, warm_used, warm_missed, warm_failed, warm_dropped[METERS_WARM_ENDS];
};

/* CRLs of one service that are shown. */
#define METERS_CRLS_MAX 32

struct meters_crl {
    char source[160], issuer[160], number[44]; /* printable; cut when longer */
    int64_t this_update, next_update;          /* UNIX seconds; 0: none */
    uint64_t entries;
    bool delta, checked; /* checked: its issuer is at hand and has signed it */
};

struct meters_crls {
    struct meters_crl items[METERS_CRLS_MAX];
    size_t n, total; /* total: with those that are not shown */
};

/* The CRLs that a service uses now. */
void meters_crls(struct meters *meters, const struct meters_crls *crls);
void meters_read_crls(const struct meters *meters, struct meters_crls *ret);

/* NULL meters read as zero. */
void meters_read(const struct meters *meters, struct meters_reading *ret);
int meters_state(const struct meters *meters); /* the state alone */

/* The check that refused certificates are counted under at this index ("chain", "revocation", ... "other"), or NULL. */
const char *meters_check(size_t index);

#endif

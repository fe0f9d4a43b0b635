/* The .c is included for struct shared: what another process may write there. */
#include "daemon/meters.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct both {
    struct meters *here, *there;
    struct meters_reading reading;
};

static int setup(void **state)
{
    struct both *both = calloc(1, sizeof(*both));
    struct error err = ERROR_INIT;

    both->here = meters_new(&err);
    assert_non_null(both->here);
    both->there = meters_open(dup(meters_fd(both->here)), &err);
    assert_non_null(both->there);
    *state = both;
    return 0;
}

static int teardown(void **state)
{
    struct both *both = *state;

    meters_free(both->here);
    meters_free(both->there);
    free(both);
    return 0;
}

static void what_one_process_counts_the_other_reads(void **state)
{
    struct both *both = *state;
    static const struct verdict good = {.accepted = true,
                                        .remembered = true,
                                        .n_notes = 3,
                                        .notes = {{.check = "revocation"}, {.check = "form"}, {.check = "revocation"}}},
                                revoked = {.remembered = true, .reason = {.check = "revocation"}},
                                strange = {.reason = {.check = "nobody knows"}};
    const struct meters_reading *reading = &both->reading;

    meters_opened(both->there, 1);
    meters_opened(both->there, 1);
    meters_opened(both->there, 2);
    meters_closed(both->there, 1, RECORD_CLOSED, "not a failure");
    meters_bytes(both->there, 10, 20);
    meters_handshake(both->there, false, 5000);
    meters_handshake(both->there, true, 700);
    meters_verdict(both->there, &good);
    meters_verdict(both->there, &revoked);
    meters_verdict(both->there, &strange);
    meters_read(both->here, &both->reading);
    assert_int_equal(reading->open, 2);
    assert_int_equal(reading->results[RECORD_CLOSED], 1);
    assert_string_equal(reading->last_failure, "");
    assert_int_equal(reading->bytes_in, 10);
    assert_int_equal(reading->bytes_out, 20);
    assert_int_equal(reading->full.count, 1);
    assert_int_equal(reading->full.sum_us, 5000);
    assert_int_equal(reading->resumed.count, 1);
    assert_int_equal(reading->accepted, 1);
    assert_int_equal(reading->remembered, 1);
    assert_int_equal(reading->tolerated, 2);
    for (size_t i = 0; meters_check(i) != NULL; i++)
        assert_int_equal(reading->refused[i],
                         strcmp(meters_check(i), "revocation") == 0 || strcmp(meters_check(i), "other") == 0);
}

static void a_process_that_is_gone_has_nothing_open(void **state)
{
    struct both *both = *state;

    meters_opened(both->there, 3);
    meters_opened(both->there, 3);
    meters_opened(both->here, 4);
    meters_generation_ended(both->here, 3);
    meters_read(both->here, &both->reading);
    assert_int_equal(both->reading.open, 1);
}

static void the_last_failure_is_told(void **state)
{
    struct both *both = *state;

    meters_opened(both->there, 1);
    meters_closed(both->there, 1, RECORD_FAILED, "first");
    meters_turned_away(both->there, "max-connections is reached");
    meters_read(both->here, &both->reading);
    assert_string_equal(both->reading.last_failure, "max-connections is reached");
    assert_true(both->reading.last_failure_time > 1700000000);
    assert_int_equal(both->reading.results[RECORD_LIMIT], 1);
    assert_int_equal(both->reading.open, 0);
}

static void a_writer_that_was_killed_does_not_silence_the_next(void **state)
{
    struct both *both = *state;
    struct error err = ERROR_INIT;

    atomic_fetch_add(&both->there->shared->failure_turn, 1);
    meters_turned_away(both->there, "lost");
    meters_free(both->there);
    both->there = meters_open(dup(meters_fd(both->here)), &err);
    meters_turned_away(both->there, "heard");
    meters_read(both->here, &both->reading);
    assert_string_equal(both->reading.last_failure, "heard");
}

static void whatever_stands_there_is_printable(void **state)
{
    struct both *both = *state;

    memset(both->there->shared->failure, 0x1b, sizeof(both->there->shared->failure));
    memset(both->there->shared->mechanisms, 0xff, sizeof(both->there->shared->mechanisms));
    for (size_t i = 0; i < METERS_MECHANISMS_MAX; i++)
        atomic_store(&both->there->shared->mechanisms[i].taken, 2);
    meters_read(both->here, &both->reading);
    assert_int_equal(strlen(both->reading.last_failure), METERS_REASON_MAX - 1);
    assert_int_equal(both->reading.last_failure[0], '?');
    assert_int_equal(both->reading.n_mechanisms, METERS_MECHANISMS_MAX);
    assert_int_equal(strspn(both->reading.mechanisms[0].name, "?"), sizeof(both->reading.mechanisms[0].name) - 1);
}

static void signatures_by_mechanism(void **state)
{
    struct both *both = *state;

    meters_read(both->here, &both->reading);
    assert_int_equal(both->reading.state, -1);
    meters_signed(both->there, "CKM_ECDSA", 1000);
    meters_signed(both->here, "CKM_RSA_PKCS", 2000);
    meters_signed(both->there, "CKM_ECDSA", 3000);
    meters_not_signed(both->there);
    meters_identity(both->there, 3, 1234);
    meters_read(both->here, &both->reading);
    assert_int_equal(both->reading.n_mechanisms, 2);
    assert_string_equal(both->reading.mechanisms[0].name, "CKM_ECDSA");
    assert_int_equal(both->reading.mechanisms[0].signatures, 2);
    assert_int_equal(both->reading.mechanisms[1].signatures, 1);
    assert_int_equal(both->reading.not_signed, 1);
    assert_int_equal(both->reading.sign.count, 3);
    assert_int_equal(both->reading.state, 3);
    assert_int_equal(meters_state(both->here), 3);
    assert_int_equal(both->reading.not_after, 1234);
}

static void too_many_mechanisms_share_the_last_place(void **state)
{
    struct both *both = *state;
    char name[16];

    for (int i = 0; i < METERS_MECHANISMS_MAX + 3; i++) {
        (void)snprintf(name, sizeof(name), "CKM_%d", i);
        meters_signed(both->here, name, 1);
    }
    meters_read(both->here, &both->reading);
    assert_int_equal(both->reading.n_mechanisms, METERS_MECHANISMS_MAX);
    assert_string_equal(both->reading.mechanisms[METERS_MECHANISMS_MAX - 1].name, "other");
    assert_int_equal(both->reading.mechanisms[METERS_MECHANISMS_MAX - 1].signatures, 4);
}

/* Its size could shrink while it is read. */
static void memory_that_is_not_sealed_is_refused(void **state)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), small = memfd_create("x", MFD_ALLOW_SEALING);

    (void)state;
    assert_int_equal(ftruncate(fd, sizeof(struct shared)), 0);
    assert_null(meters_open(fd, &err));
    assert_int_equal(err.category, ERROR_PROTOCOL);
    assert_int_equal(ftruncate(small, 4096), 0);
    assert_int_equal(fcntl(small, F_ADD_SEALS, SEALS), 0);
    assert_null(meters_open(small, &err));
    assert_int_equal(err.category, ERROR_PROTOCOL);
}

static void nothing_counts_nothing(void **state)
{
    struct both *both = *state;

    meters_opened(NULL, 0);
    meters_closed(NULL, 0, RECORD_FAILED, "x");
    meters_turned_away(NULL, "x");
    meters_bytes(NULL, 1, 1);
    meters_handshake(NULL, true, 1);
    meters_signed(NULL, "x", 1);
    meters_not_signed(NULL);
    meters_identity(NULL, 1, 1);
    meters_generation_ended(NULL, 1);
    meters_free(NULL);
    meters_read(NULL, &both->reading);
    assert_int_equal(both->reading.state, -1);
    assert_int_equal(meters_state(NULL), -1);
}

static void connections_kept_ready(void **state)
{
    struct both *both = *state;
    const struct meters_reading *reading = &both->reading;

    meters_warm_wanted(both->there, 16);
    meters_warm_ready(both->there, 1, true);
    meters_warm_ready(both->there, 1, true);
    meters_warm_ready(both->there, 1, false);
    meters_warm_ready(both->there, 2, true);
    meters_warm_asked(both->there, true);
    meters_warm_asked(both->there, false);
    meters_warm_asked(both->there, false);
    meters_warm_dropped(both->there, METERS_WARM_VERDICT);
    meters_warm_failed(both->there, "nobody listens");
    meters_read(both->here, &both->reading);
    assert_int_equal(reading->warm_wanted, 16);
    assert_int_equal(reading->warm_ready, 2);
    assert_int_equal(reading->warm_used, 1);
    assert_int_equal(reading->warm_missed, 2);
    assert_int_equal(reading->warm_failed, 1);
    for (int why = 0; why < METERS_WARM_ENDS; why++) {
        assert_non_null(meters_warm_name((enum meters_warm)why));
        assert_int_equal(reading->warm_dropped[why], why == METERS_WARM_VERDICT);
    }
    assert_string_equal(reading->last_failure, "nobody listens");
    meters_generation_ended(both->here, 1);
    meters_read(both->here, &both->reading);
    assert_int_equal(reading->warm_ready, 1);
    meters_warm_wanted(NULL, 1);
    meters_warm_ready(NULL, 1, true);
    meters_warm_asked(NULL, true);
    meters_warm_dropped(NULL, METERS_WARM_AGE);
    meters_warm_failed(NULL, "x");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_one_process_counts_the_other_reads),
        TEST(a_process_that_is_gone_has_nothing_open),
        TEST(the_last_failure_is_told),
        TEST(a_writer_that_was_killed_does_not_silence_the_next),
        TEST(whatever_stands_there_is_printable),
        TEST(signatures_by_mechanism),
        TEST(too_many_mechanisms_share_the_last_place),
        TEST(memory_that_is_not_sealed_is_refused),
        TEST(connections_kept_ready),
        TEST(nothing_counts_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The list of keyholders over reloads: the same definition keeps its process and its login, what nobody wants ends. */
#include "daemon/keepers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

struct keeper {
    const char *definition, *identity;
    enum error_category category;
    unsigned reaped;
    bool locked;
};

static unsigned n_made, n_freed;
static bool cannot_start;

static struct keeper *fake_new(const struct keeper_config *config, struct error *err)
{
    struct keeper *keeper;

    if (cannot_start) {
        (void)error_set(err, ERROR_IO, "no process");
        return NULL;
    }
    keeper = calloc(1, sizeof(*keeper));
    assert_non_null(keeper);
    keeper->definition = config->plan->groups.items[config->group].definition;
    keeper->identity = config->plan->groups.items[config->group].identities[0].name;
    keeper->locked = config->locked;
    n_made++;
    return keeper;
}

static const char *fake_definition(const struct keeper *keeper)
{
    return keeper->definition;
}

static size_t fake_identities(const struct keeper *keeper)
{
    (void)keeper;
    return 1;
}

static void fake_identity(const struct keeper *keeper, size_t index, struct keeper_identity *ret)
{
    assert_int_equal(index, 0);
    *ret = (struct keeper_identity){.name = keeper->identity, .category = keeper->category};
}

static bool fake_is_locked(const struct keeper *keeper)
{
    return keeper->locked;
}

static void fake_reap(struct keeper *keeper)
{
    keeper->reaped++;
}

static void fake_free(struct keeper *keeper)
{
    if (keeper != NULL)
        n_freed++;
    free(keeper);
}

#define keeper_new fake_new
#define keeper_definition fake_definition
#define keeper_reap fake_reap
#define keeper_free fake_free
#define keeper_identities fake_identities
#define keeper_identity(keeper, index, ret) fake_identity(keeper, index, ret) /* the struct keeps its name */
#define keeper_is_locked fake_is_locked
#include "daemon/keepers.c" // NOLINT(bugprone-suspicious-include): the unit under test

static struct keyholder_identity_config identities[3] = {{.name = "a"}, {.name = "b"}, {.name = "a"}};
static char names[3][8] = {"first", "second", "third"};
static struct groups_one items[3] = {
    {.definition = names[0], .identities = &identities[0], .config = {.n_identities = 1}},
    {.definition = names[1], .identities = &identities[1], .config = {.n_identities = 1}},
    {.definition = names[2], .identities = &identities[2], .config = {.n_identities = 1}}};
static struct blueprint plan = {.groups = {.items = items, .n = 3}};

static struct keeper *get(struct keepers *keepers, size_t group)
{
    struct keeper_config config = {.plan = &plan, .group = group};
    struct error err = ERROR_INIT;

    return keepers_get(keepers, &config, &err);
}

static int setup(void **state)
{
    (void)state;
    n_made = n_freed = 0;
    cannot_start = false;
    return 0;
}

static void test_same_definition_is_kept(void **state)
{
    struct keepers keepers = {0};
    struct keeper *first = get(&keepers, 0), *second = get(&keepers, 1);

    (void)state;
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(get(&keepers, 0), first);
    assert_ptr_equal(get(&keepers, 1), second);
    assert_int_equal(n_made, 2);
    keepers_reap(&keepers);
    assert_int_equal(first->reaped, 1);
    assert_int_equal(second->reaped, 1);
    keepers_forget(&keepers);
    keepers_sweep(&keepers);
    assert_int_equal(n_freed, 2);
    assert_null(keepers.items);
}

/* A reload that changes a keyholder does not end what a person has locked, nor lock anything else. */
static void test_lock_outlives_a_definition(void **state)
{
    struct keepers keepers = {0};

    (void)state;
    get(&keepers, 0)->locked = true;
    assert_false(get(&keepers, 1)->locked);
    assert_true(get(&keepers, 2)->locked);
    keepers_forget(&keepers);
    keepers_sweep(&keepers);
    assert_false(get(&keepers, 2)->locked);
    keepers_forget(&keepers);
    keepers_sweep(&keepers);
}

static void test_sweep_ends_what_nobody_wants(void **state)
{
    struct keepers keepers = {0};
    struct keeper *kept;

    (void)state;
    (void)get(&keepers, 0);
    kept = get(&keepers, 1);
    (void)get(&keepers, 2);
    keepers_forget(&keepers);
    keepers_want(&keepers, kept);
    keepers_want(&keepers, NULL);
    keepers_sweep(&keepers);
    assert_int_equal(n_freed, 2);
    assert_ptr_equal(get(&keepers, 1), kept);
    assert_int_equal(n_made, 3);
    keepers_sweep(&keepers); /* still wanted: forgetting comes first */
    assert_int_equal(n_freed, 2);
    keepers_forget(&keepers);
    keepers_sweep(&keepers);
    assert_int_equal(n_freed, 3);
}

/* One that cannot be started leaves no entry, and is tried anew. */
static void test_failed_start(void **state)
{
    struct keepers keepers = {0};

    (void)state;
    cannot_start = true;
    assert_null(get(&keepers, 0));
    assert_null(keepers.items);
    cannot_start = false;
    assert_non_null(get(&keepers, 0));
    keepers_forget(&keepers);
    keepers_sweep(&keepers);
    assert_int_equal(n_freed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_same_definition_is_kept, setup),
        cmocka_unit_test_setup(test_lock_outlives_a_definition, setup),
        cmocka_unit_test_setup(test_sweep_ends_what_nobody_wants, setup),
        cmocka_unit_test_setup(test_failed_start, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

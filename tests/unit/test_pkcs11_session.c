/* A pool that the token's session count has made smaller, and how it grows again. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "pkcs11/session.c" // NOLINT(bugprone-suspicious-include): the unit under test

static unsigned bearable, alive, asked;

static CK_RV open_one(CK_SLOT_ID slot, CK_FLAGS flags, void *arg, CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    (void)slot;
    (void)flags;
    (void)arg;
    (void)notify;
    asked++;
    if (alive >= bearable)
        return CKR_SESSION_COUNT;
    *ret = ++alive;
    return CKR_OK;
}

static CK_RV close_one(CK_SESSION_HANDLE session)
{
    (void)session;
    alive--;
    return CKR_OK;
}

static CK_RV close_all(CK_SLOT_ID slot)
{
    (void)slot;
    alive = 0;
    return CKR_OK;
}

static CK_FUNCTION_LIST functions = {
    .C_OpenSession = open_one, .C_CloseSession = close_one, .C_CloseAllSessions = close_all};

static bool take(struct session_pool *pool, struct session *ret)
{
    struct error err = ERROR_INIT;

    if (session_checkout(pool, 0, ret, &err) == ERROR_NONE)
        return true;
    assert_int_equal(err.code, CKR_SESSION_COUNT);
    return false;
}

static void grows_again_after_a_while(void **state)
{
    struct error err = ERROR_INIT;
    struct session_pool *pool = session_pool_new(&err);
    struct module *module;
    struct session held[4];

    (void)state;
    assert_non_null(pool);
    assert_int_equal(module_adopt(&functions, "counting", false, &module, &err), ERROR_NONE);
    session_pool_bind(pool, module, 0, 3);
    bearable = 1;
    assert_true(take(pool, &held[0]));
    assert_false(take(pool, &held[1]));
    assert_int_equal(session_pool_limit(pool), 1);
    asked = 0;
    bearable = SESSION_MAX;
    for (int i = 0; i < 5; i++)
        assert_false(take(pool, &held[1]));
    assert_int_equal(asked, 0); /* the token is not asked at every turn */

    bearable = 1;
    pool->grow_at = 0;
    for (int i = 0; i < 5; i++)
        assert_false(take(pool, &held[1]));
    assert_int_equal(asked, 1); /* in vain: the next time is later again */
    assert_int_equal(session_pool_limit(pool), 1);

    bearable = SESSION_MAX;
    pool->grow_at = 0;
    assert_true(take(pool, &held[1]));
    assert_true(take(pool, &held[2]));
    assert_int_equal(session_pool_limit(pool), 3);
    asked = 0;
    assert_false(take(pool, &held[3])); /* never more than it was bound with */
    assert_int_equal(asked, 0);
    for (int i = 0; i < 3; i++)
        session_checkin(pool, &held[i], true);
    session_pool_free(pool);
    assert_int_equal(alive, 0);
    module_release(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(grows_again_after_a_while)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

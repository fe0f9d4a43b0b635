/*
 * The fault-injecting module: without faults it passes everything through, each fault gives the CK_RV it promises.
 * lint: one file, because it proves the rows of one table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/text.h"
#include "tests/mock-module/faults.h"

#include <ctype.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/tokentls-faults-XXXXXX";
static char control[96], counters[96];
static CK_FUNCTION_LIST *p11;
static CK_SLOT_ID slot;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE ec_key, rsa_key, rsa_public;
static CK_BYTE pin[] = "1234";
static CK_BYTE digest[32] = "thirty-two bytes to be signed...";

static void write_file(const char *path, const char *text)
{
    struct error err = ERROR_INIT;

    assert_int_equal(file_replace(path, text, strlen(text), &err), ERROR_NONE);
}

static void faults(const char *text)
{
    write_file(control, text);
}

/* Total of a record of the counters file, read as another process would. */
static uint64_t counted(const char *name)
{
    struct {
        char name[48];
        uint64_t total, turns;
    } record;
    FILE *file = fopen(counters, "rb");
    uint64_t total = UINT64_MAX;

    assert_non_null(file);
    assert_int_equal(fseek(file, 64, SEEK_SET), 0);
    while (fread(&record, sizeof record, 1, file) == 1) {
        if (strcmp(record.name, name) == 0)
            total = record.total;
    }
    fclose(file);
    assert_true(total != UINT64_MAX);
    return total;
}

static CK_RV initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};

    return p11->C_Initialize(&args);
}

static void generate_keys(CK_SESSION_HANDLE rw)
{
    CK_BYTE p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    CK_BYTE exponent[] = {1, 0, 1};
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG bits = 2048;
    CK_MECHANISM ec = {CKM_EC_KEY_PAIR_GEN, NULL, 0}, rsa = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_ATTRIBUTE ec_public_attributes[] = {{CKA_EC_PARAMS, p256, sizeof p256}, {CKA_TOKEN, &yes, 1}};
    CK_ATTRIBUTE rsa_public_attributes[] = {{CKA_MODULUS_BITS, &bits, sizeof bits},
                                            {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent},
                                            {CKA_TOKEN, &yes, 1},
                                            {CKA_VERIFY, &yes, 1}};
    CK_ATTRIBUTE private_attributes[] = {{CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SIGN, &yes, 1}};
    CK_OBJECT_HANDLE other;

    assert_int_equal(p11->C_GenerateKeyPair(rw, &ec, ec_public_attributes, 2, private_attributes, 3, &other, &ec_key),
                     CKR_OK);
    assert_int_equal(
        p11->C_GenerateKeyPair(rw, &rsa, rsa_public_attributes, 4, private_attributes, 3, &rsa_public, &rsa_key),
        CKR_OK);
}

static void make_token(void)
{
    CK_BYTE label[32], so_pin[] = "12345678";
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;
    CK_SESSION_HANDLE rw;

    memset(label, ' ', sizeof label);
    memcpy(label, "faults", 6);
    assert_int_equal(initialize(), CKR_OK);
    assert_int_equal(p11->C_GetSlotList(CK_FALSE, slots, &n), CKR_OK);
    assert_int_equal(p11->C_InitToken(slots[0], so_pin, 8, label), CKR_OK);
    n = 8;
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    slot = slots[0];
    assert_int_equal(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &rw), CKR_OK);
    assert_int_equal(p11->C_Login(rw, CKU_SO, so_pin, 8), CKR_OK);
    assert_int_equal(p11->C_InitPIN(rw, pin, 4), CKR_OK);
    assert_int_equal(p11->C_Logout(rw), CKR_OK);
    assert_int_equal(p11->C_Login(rw, CKU_USER, pin, 4), CKR_OK);
    generate_keys(rw);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
}

static int group_setup(void **state)
{
    char path[96], text[256];
    CK_C_GetFunctionList get_list;
    void *handle;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokens", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/softhsm2.conf", folder);
    snprintf(text, sizeof text, "directories.tokendir = %s/tokens\nlog.level = ERROR\n", folder);
    write_file(path, text);
    snprintf(control, sizeof control, "%s/control", folder);
    snprintf(counters, sizeof counters, "%s/counters", folder);
    setenv("SOFTHSM2_CONF", path, 1);
    setenv("TOKENTLS_FAULTS", control, 1);
    setenv("TOKENTLS_FAULTS_COUNTERS", counters, 1);
    setenv("TOKENTLS_FAULTS_PIN", "1234", 1);
    handle = dlopen(FAULTS_MODULE_PATH, RTLD_NOW);
    if (!handle)
        fail_msg("%s", dlerror());
    *(void **)&get_list = dlsym(handle, "C_GetFunctionList");
    assert_non_null(get_list);
    assert_int_equal(get_list(&p11), CKR_OK);
    make_token();
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *walk)
{
    (void)st;
    (void)flag;
    (void)walk;
    return remove(path);
}

static int group_teardown(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void find_key(CK_OBJECT_CLASS class, CK_KEY_TYPE type, CK_OBJECT_HANDLE *ret)
{
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}};
    CK_ULONG n;

    assert_int_equal(p11->C_FindObjectsInit(session, template, 2), CKR_OK);
    assert_int_equal(p11->C_FindObjects(session, ret, 1, &n), CKR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
}

static CK_RV open_session(CK_SESSION_HANDLE *ret)
{
    return p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, ret);
}

/* SoftHSM derives the slot's id from the serial number once the token has one. */
static void find_slot(void)
{
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;
    CK_TOKEN_INFO info;

    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    for (CK_ULONG i = 0; i < n; i++) {
        assert_int_equal(p11->C_GetTokenInfo(slots[i], &info), CKR_OK);
        if (memcmp(info.label, "faults ", 7) == 0) {
            slot = slots[i];
            return;
        }
    }
    fail_msg("the token is not there");
}

/* Every test begins logged in, with both keys found and no fault. */
static int test_setup(void **state)
{
    (void)state;
    unlink(control);
    assert_int_equal(initialize(), CKR_OK);
    find_slot();
    assert_int_equal(open_session(&session), CKR_OK);
    assert_int_equal(p11->C_Login(session, CKU_USER, pin, 4), CKR_OK);
    find_key(CKO_PRIVATE_KEY, CKK_EC, &ec_key);
    find_key(CKO_PRIVATE_KEY, CKK_RSA, &rsa_key);
    find_key(CKO_PUBLIC_KEY, CKK_RSA, &rsa_public);
    return 0;
}

static int test_teardown(void **state)
{
    (void)state;
    unlink(control);
    (void)p11->C_Finalize(NULL);
    return 0;
}

static CK_RV sign(CK_OBJECT_HANDLE key, CK_MECHANISM_TYPE type, CK_BYTE *signature, CK_ULONG *length)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_RV rv = p11->C_SignInit(session, &mechanism, key);

    return rv == CKR_OK ? p11->C_Sign(session, digest, sizeof digest, signature, length) : rv;
}

static CK_RV sign_ec(void)
{
    CK_BYTE signature[256];
    CK_ULONG length = sizeof signature;

    return sign(ec_key, CKM_ECDSA, signature, &length);
}

static CK_RV verify_rsa(CK_BYTE *signature, CK_ULONG length)
{
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    CK_RV rv = p11->C_VerifyInit(session, &mechanism, rsa_public);

    return rv == CKR_OK ? p11->C_Verify(session, digest, sizeof digest, signature, length) : rv;
}

static void test_passes_through(void **state)
{
    CK_BYTE signature[256];
    CK_ULONG length = sizeof signature;
    CK_TOKEN_INFO info;
    uint64_t signed_before = counted("C_Sign");

    (void)state;
    assert_int_equal(p11->version.major, 2);
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_memory_equal(info.label, "faults  ", 8);
    assert_int_equal(info.flags & (CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_LOCKED), 0);
    assert_int_equal(sign(rsa_key, CKM_RSA_PKCS, signature, &length), CKR_OK);
    assert_int_equal(verify_rsa(signature, length), CKR_OK);
    assert_int_equal(counted("C_Sign"), signed_before + 1);
    assert_int_equal(sign_ec(), CKR_OK);
    assert_int_equal(p11->C_Login(session, CKU_USER, pin, 4), CKR_USER_ALREADY_LOGGED_IN);
}

static void test_sign_returns(void **state)
{
    static const struct {
        const char *name;
        CK_RV rv;
    } cases[] = {{"sign__device_error", CKR_DEVICE_ERROR},
                 {"sign__device_memory", CKR_DEVICE_MEMORY},
                 {"sign__function_failed", CKR_FUNCTION_FAILED},
                 {"sign__function_canceled", CKR_FUNCTION_CANCELED},
                 {"sign__general_error", CKR_GENERAL_ERROR},
                 {"sign__host_memory", CKR_HOST_MEMORY},
                 {"sign__key_handle_invalid", CKR_KEY_HANDLE_INVALID},
                 {"sign__operation_not_initialized", CKR_OPERATION_NOT_INITIALIZED},
                 {"sign__vendor_error", CKR_VENDOR_DEFINED | 0x42},
                 {"sign_init__key_handle_invalid", CKR_KEY_HANDLE_INVALID},
                 {"sign_init__function_failed", CKR_FUNCTION_FAILED}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[96];

        snprintf(line, sizeof line, "# one row\n%s\n", cases[i].name);
        faults(line);
        assert_int_equal(sign_ec(), cases[i].rv);
        assert_int_equal(sign_ec(), cases[i].rv); /* and not CKR_OPERATION_ACTIVE: the operation has ended */
        assert_int_equal(counted(cases[i].name), 2);
        faults("");
        assert_int_equal(sign_ec(), CKR_OK);
    }
}

static void test_session_is_gone(void **state)
{
    static const char *const lines[] = {"sign__session_invalid\n", "sign__session_closed\n",
                                        "sign_init__session_invalid\n"};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        CK_SESSION_HANDLE other;

        assert_int_equal(open_session(&other), CKR_OK); /* keeps the login alive */
        faults(lines[i]);
        assert_int_equal(sign_ec(), i == 1 ? CKR_SESSION_CLOSED : CKR_SESSION_HANDLE_INVALID);
        faults("");
        assert_int_equal(sign_ec(), CKR_SESSION_HANDLE_INVALID);
        session = other;
        assert_int_equal(sign_ec(), CKR_OK);
    }
}

static void test_login_is_gone(void **state)
{
    (void)state;
    faults("sign__user_not_logged_in times=1\n");
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
    assert_int_not_equal(sign_ec(), CKR_OK); /* the token has really logged out */
    assert_int_equal(p11->C_Login(session, CKU_USER, pin, 4), CKR_OK);
    find_key(CKO_PRIVATE_KEY, CKK_EC, &ec_key);
    assert_int_equal(sign_ec(), CKR_OK);
    faults("sign_init__user_not_logged_in\n");
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
}

static void test_device_is_gone(void **state)
{
    (void)state;
    faults("sign__device_removed\n");
    assert_int_equal(sign_ec(), CKR_DEVICE_REMOVED);
    faults("");
    assert_int_equal(sign_ec(), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(open_session(&session), CKR_OK);
    assert_int_equal(p11->C_Login(session, CKU_USER, pin, 4), CKR_OK);
    find_key(CKO_PRIVATE_KEY, CKK_EC, &ec_key);
    faults("sign__token_not_present\n");
    assert_int_equal(sign_ec(), CKR_TOKEN_NOT_PRESENT);
}

static void test_spoiled_signatures(void **state)
{
    CK_BYTE signature[256];
    CK_ULONG length = sizeof signature;

    (void)state;
    faults("sign__wrong_signature\n");
    assert_int_equal(sign(rsa_key, CKM_RSA_PKCS, signature, &length), CKR_OK);
    assert_int_equal(verify_rsa(signature, length), CKR_SIGNATURE_INVALID);
    faults("sign__short\n");
    assert_int_equal(sign(rsa_key, CKM_RSA_PKCS, signature, &length), CKR_OK);
    assert_int_equal(length, 255);
    faults("sign__empty\n");
    length = sizeof signature;
    assert_int_equal(sign(rsa_key, CKM_RSA_PKCS, signature, &length), CKR_OK);
    assert_int_equal(length, 0);
    faults("sign__length_lies\n");
    length = sizeof signature;
    assert_int_equal(sign(rsa_key, CKM_RSA_PKCS, signature, &length), CKR_OK);
    assert_int_equal(length, sizeof signature + 4096);
}

static void test_der_ecdsa(void **state)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BYTE signature[256];
    CK_ULONG length = 0;

    (void)state;
    faults("sign__der_ecdsa\n");
    assert_int_equal(p11->C_SignInit(session, &mechanism, ec_key), CKR_OK);
    assert_int_equal(p11->C_Sign(session, digest, sizeof digest, NULL, &length), CKR_OK);
    assert_in_range(length, 70, sizeof signature);
    assert_int_equal(p11->C_Sign(session, digest, sizeof digest, signature, &length), CKR_OK);
    assert_in_range(length, 66, 72);
    assert_int_equal(signature[0], 0x30);
    assert_int_equal(signature[1], length - 2);
    assert_int_equal(signature[2], 2);
    assert_int_equal(signature[4 + signature[3]], 2);
    assert_int_equal(4 + signature[3] + 2 + signature[5 + signature[3]], length);
    faults("");
    length = sizeof signature;
    assert_int_equal(sign(ec_key, CKM_ECDSA, signature, &length), CKR_OK);
    assert_int_equal(length, 64);
}

static void test_login_returns(void **state)
{
    static const struct {
        const char *name;
        CK_RV rv;
    } cases[] = {
        {"login__pin_incorrect", CKR_PIN_INCORRECT},     {"login__pin_locked", CKR_PIN_LOCKED},
        {"login__pin_expired", CKR_PIN_EXPIRED},         {"login__pin_not_initialized", CKR_USER_PIN_NOT_INITIALIZED},
        {"login__function_failed", CKR_FUNCTION_FAILED}, {"login__function_canceled", CKR_FUNCTION_CANCELED},
        {"login__device_removed", CKR_DEVICE_REMOVED}};
    uint64_t tried = counted("C_Login"), failed = counted("C_Login failed");

    (void)state;
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[96];

        snprintf(line, sizeof line, "%s\n", cases[i].name);
        faults(line);
        assert_int_equal(p11->C_Login(session, CKU_USER, pin, 4), cases[i].rv);
        assert_int_equal(counted("C_Login"), tried + i + 1);
        assert_int_equal(counted("C_Login failed"), failed + i + 1);
        assert_int_equal(counted(cases[i].name), 1);
    }
}

static void test_token_flags(void **state)
{
    static const struct {
        const char *line;
        CK_FLAGS flag;
    } cases[] = {{"login__final_try\n", CKF_USER_PIN_FINAL_TRY},
                 {"login__count_low\n", CKF_USER_PIN_COUNT_LOW},
                 {"login__locked\n", CKF_USER_PIN_LOCKED},
                 {"login__to_be_changed\n", CKF_USER_PIN_TO_BE_CHANGED},
                 {"token_info__write_protected\n", CKF_WRITE_PROTECTED}};
    CK_TOKEN_INFO info;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        faults(cases[i].line);
        assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
        assert_true(info.flags & cases[i].flag);
        faults("");
        assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
        assert_false(info.flags & cases[i].flag);
    }
    faults("slots__other_serial\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_memory_equal(info.serialNumber, "fa017fa017fa017f", 16);
    faults("token_info__other_maker\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_memory_equal(info.manufacturerID, "xxxxxxxx", 8);
    faults("token_info__no_pin_set\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_false(info.flags & CKF_USER_PIN_INITIALIZED);
    faults("token_info__evil_label\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_memory_equal(info.label, "a\nb\x1b", 4);
    faults("token_info__fail\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_DEVICE_ERROR);
    faults("token_info__not_recognized\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_TOKEN_NOT_RECOGNIZED);
}

static void test_pinpad(void **state)
{
    CK_TOKEN_INFO info;

    (void)state;
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    assert_int_not_equal(p11->C_Login(session, CKU_USER, NULL, 0), CKR_OK);
    faults("login__pinpad\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_true(info.flags & CKF_PROTECTED_AUTHENTICATION_PATH);
    assert_int_equal(p11->C_Login(session, CKU_USER, NULL, 0), CKR_OK);
    find_key(CKO_PRIVATE_KEY, CKK_EC, &ec_key);
    assert_int_equal(sign_ec(), CKR_OK);
}

static void test_token_absent(void **state)
{
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8, before = 0;
    CK_SLOT_INFO info;
    CK_TOKEN_INFO token;
    CK_SESSION_HANDLE other;

    (void)state;
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &before), CKR_OK);
    faults("slots__token_absent\n");
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(p11->C_GetSlotList(CK_FALSE, NULL, &n), CKR_OK);
    assert_true(n > 0);
    assert_int_equal(p11->C_GetSlotInfo(slot, &info), CKR_OK);
    assert_false(info.flags & CKF_TOKEN_PRESENT);
    assert_int_equal(p11->C_GetTokenInfo(slot, &token), CKR_TOKEN_NOT_PRESENT);
    assert_int_equal(open_session(&other), CKR_TOKEN_NOT_PRESENT);
    faults("");
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &n), CKR_OK);
    assert_int_equal(n, before);
    assert_int_equal(sign_ec(), CKR_SESSION_HANDLE_INVALID); /* removal closed it */
    assert_int_equal(open_session(&session), CKR_OK);
    faults("slots__fail\n");
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &n), CKR_DEVICE_ERROR);
    faults("slots__removable\n");
    assert_int_equal(p11->C_GetSlotInfo(slot, &info), CKR_OK);
    assert_true(info.flags & CKF_REMOVABLE_DEVICE);
}

static void test_other_slot(void **state)
{
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;
    CK_TOKEN_INFO info;
    CK_SESSION_INFO of_session;
    CK_SESSION_HANDLE other;

    (void)state;
    faults("slots__other_slot\n");
    assert_int_equal(p11->C_GetTokenInfo(slot & 0xfff, &info), CKR_SLOT_ID_INVALID);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    assert_true(n > 0 && slots[0] != slot);
    assert_int_equal(p11->C_GetTokenInfo(slots[0], &info), CKR_OK);
    assert_int_equal(p11->C_OpenSession(slots[0], CKF_SERIAL_SESSION, NULL, NULL, &other), CKR_OK);
    assert_int_equal(p11->C_GetSessionInfo(other, &of_session), CKR_OK);
    assert_int_equal(of_session.slotID, slots[0]);
    assert_int_equal(sign_ec(), CKR_SESSION_HANDLE_INVALID);
}

static void test_session_limits(void **state)
{
    CK_SESSION_HANDLE other, third;
    CK_TOKEN_INFO info;

    (void)state;
    faults("open_session__count 2\n");
    assert_int_equal(open_session(&other), CKR_OK);
    assert_int_equal(open_session(&third), CKR_SESSION_COUNT);
    assert_int_equal(p11->C_CloseSession(other), CKR_OK);
    assert_int_equal(open_session(&other), CKR_OK);
    faults("open_session__single\n");
    assert_int_equal(p11->C_GetTokenInfo(slot, &info), CKR_OK);
    assert_int_equal(info.ulMaxSessionCount, 1);
    assert_int_equal(open_session(&third), CKR_SESSION_COUNT);
    faults("open_session__fail\n");
    assert_int_equal(open_session(&third), CKR_DEVICE_ERROR);
}

static void test_initialize(void **state)
{
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;

    (void)state;
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    faults("initialize__fail\n");
    assert_int_equal(initialize(), CKR_GENERAL_ERROR);
    faults("initialize__cant_lock\n");
    assert_int_equal(initialize(), CKR_CANT_LOCK);
    assert_int_equal(p11->C_Initialize(NULL), CKR_OK);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    assert_int_equal(counted("violation concurrent call"), 0);
}

static CK_ULONG mechanisms(CK_MECHANISM_TYPE wanted, bool *ret_listed)
{
    CK_MECHANISM_TYPE all[256];
    CK_ULONG n = 256;

    assert_int_equal(p11->C_GetMechanismList(slot, all, &n), CKR_OK);
    *ret_listed = false;
    for (CK_ULONG i = 0; i < n; i++)
        *ret_listed |= all[i] == wanted;
    return n;
}

static void test_mechanisms(void **state)
{
    static const struct {
        const char *line;
        bool pkcs1, x509, pss, hash;
    } cases[] = {{"\n", true, true, true, true},
                 {"mechanism__no_pss\n", true, true, false, true},
                 {"mechanism__only_x509\n", false, true, false, false},
                 {"mechanism__only_pkcs1\n", true, false, false, false},
                 {"mechanism__only_hash_rsa\n", false, false, false, true}};
    const CK_MECHANISM_TYPE types[] = {CKM_RSA_PKCS, CKM_RSA_X_509, CKM_RSA_PKCS_PSS, CKM_SHA256_RSA_PKCS, CKM_ECDSA};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const bool wanted[] = {cases[i].pkcs1, cases[i].x509, cases[i].pss, cases[i].hash, true};

        faults(cases[i].line);
        for (size_t j = 0; j < sizeof types / sizeof *types; j++) {
            CK_MECHANISM mechanism = {types[j], NULL, 0};
            CK_MECHANISM_INFO info;
            bool listed;

            (void)mechanisms(types[j], &listed);
            assert_int_equal(listed, wanted[j]);
            assert_int_equal(p11->C_GetMechanismInfo(slot, types[j], &info),
                             wanted[j] ? CKR_OK : CKR_MECHANISM_INVALID);
            if (!wanted[j])
                assert_int_equal(p11->C_SignInit(session, &mechanism, rsa_key), CKR_MECHANISM_INVALID);
        }
    }
}

static void test_pss_lies(void **state)
{
    CK_RSA_PKCS_PSS_PARAMS params = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_PSS, &params, sizeof params};
    bool listed;

    (void)state;
    faults("mechanism__pss_lies\n");
    (void)mechanisms(CKM_RSA_PKCS_PSS, &listed);
    assert_true(listed);
    assert_int_equal(p11->C_SignInit(session, &mechanism, rsa_key), CKR_MECHANISM_PARAM_INVALID);
    faults("");
    assert_int_equal(p11->C_SignInit(session, &mechanism, rsa_key), CKR_OK);
}

static void test_objects(void **state)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template = {CKA_CLASS, &class, sizeof class};
    CK_OBJECT_HANDLE found[4];
    CK_ULONG n = 9;

    (void)state;
    faults("find_objects__none\n");
    assert_int_equal(p11->C_FindObjectsInit(session, &template, 1), CKR_OK);
    assert_int_equal(p11->C_FindObjects(session, found, 4, &n), CKR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
    faults("find_objects__fail\n");
    assert_int_equal(p11->C_FindObjectsInit(session, &template, 1), CKR_DEVICE_ERROR);
    faults("get_attribute__fail\n");
    assert_int_equal(p11->C_GetAttributeValue(session, ec_key, &template, 1), CKR_DEVICE_ERROR);
}

static void test_changes(void **state)
{
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE public, private;
    CK_UTF8CHAR label[33] = "new                             ";

    (void)state;
    faults("generate__fail\ncreate_object__fail\ninit_token__fail\n");
    assert_int_equal(p11->C_GenerateKeyPair(session, &mechanism, NULL, 0, NULL, 0, &public, &private),
                     CKR_DEVICE_ERROR);
    assert_int_equal(p11->C_CreateObject(session, NULL, 0, &public), CKR_DEVICE_MEMORY);
    assert_int_equal(p11->C_InitToken(slot, pin, 4, label), CKR_DEVICE_ERROR);
    assert_int_equal(counted("generate__fail"), 1);
    assert_true(counted("C_GenerateKeyPair") > 0 && counted("C_CreateObject") > 0 && counted("C_InitToken") > 0);
    faults("generate__slow 1\n");
    assert_int_not_equal(p11->C_GenerateKeyPair(session, &mechanism, NULL, 0, NULL, 0, &public, &private), CKR_OK);
    assert_int_equal(counted("generate__slow"), 1);
    faults("");
}

static void test_always_authenticate(void **state)
{
    CK_BYTE wrong[] = "9999", signature[256];
    CK_ULONG length = sizeof signature;
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BBOOL always = CK_FALSE;
    CK_ATTRIBUTE attribute = {CKA_ALWAYS_AUTHENTICATE, &always, 1};

    (void)state;
    faults("key__always_authenticate\n");
    assert_int_equal(p11->C_GetAttributeValue(session, ec_key, &attribute, 1), CKR_OK);
    assert_int_equal(always, CK_TRUE);
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_CONTEXT_SPECIFIC, pin, 4), CKR_OPERATION_NOT_INITIALIZED);
    for (int i = 0; i < 2; i++) { /* each signature wants its own */
        assert_int_equal(p11->C_SignInit(session, &mechanism, ec_key), CKR_OK);
        assert_int_equal(p11->C_Login(session, CKU_CONTEXT_SPECIFIC, wrong, 4), CKR_PIN_INCORRECT);
        assert_int_equal(p11->C_Login(session, CKU_CONTEXT_SPECIFIC, pin, 4), CKR_OK);
        assert_int_equal(p11->C_Sign(session, digest, sizeof digest, signature, &length), CKR_OK);
    }
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
}

static void test_lost_on_interleave(void **state)
{
    CK_SESSION_HANDLE first = session, other;

    (void)state;
    assert_int_equal(open_session(&other), CKR_OK);
    faults("login__lost_on_interleave\n");
    assert_int_equal(sign_ec(), CKR_OK);
    session = other;
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(other, CKU_USER, pin, 4), CKR_OK);
    find_key(CKO_PRIVATE_KEY, CKK_EC, &ec_key);
    assert_int_equal(sign_ec(), CKR_OK);
    session = first;
    assert_int_equal(sign_ec(), CKR_USER_NOT_LOGGED_IN);
}

static void test_times_and_after(void **state)
{
    (void)state;
    faults("sign__device_error after=1 times=2\n");
    assert_int_equal(sign_ec(), CKR_OK);
    assert_int_equal(sign_ec(), CKR_DEVICE_ERROR);
    assert_int_equal(sign_ec(), CKR_DEVICE_ERROR);
    assert_int_equal(sign_ec(), CKR_OK);
    faults("sign__general_error times=1\nsign__function_failed times=2\n");
    assert_int_equal(sign_ec(), CKR_FUNCTION_FAILED); /* the order is the table's, not the file's */
    assert_int_equal(sign_ec(), CKR_FUNCTION_FAILED);
    assert_int_equal(sign_ec(), CKR_GENERAL_ERROR);
    assert_int_equal(sign_ec(), CKR_OK);
    faults("sign__general_error times=1\n"); /* a changed file begins anew */
    assert_int_equal(sign_ec(), CKR_GENERAL_ERROR);
    faults("sign__device_error"); /* still being written */
    assert_int_equal(sign_ec(), CKR_OK);
}

static void test_slow_waits(void **state)
{
    struct timespec before, after;

    (void)state;
    faults("sign__slow 60\n");
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(sign_ec(), CKR_OK);
    clock_gettime(CLOCK_MONOTONIC, &after);
    /* A lower bound is a promise of nanosleep(), not a measurement. */
    assert_true((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 59);
}

static void test_serial_waits_for_the_other(void **state)
{
    struct timespec before;
    struct timespec after;
    int status = 0;
    pid_t pid;

    (void)state;
    faults("sign__serial 60\n");
    clock_gettime(CLOCK_MONOTONIC, &before);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(sign_ec() == CKR_OK ? 0 : 1);
    assert_int_equal(sign_ec(), CKR_OK);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    /* Both waits, one behind the other: a lower bound as above. */
    assert_true((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 119);
}

/* Run `act` in a child and return its wait status; the child inherits the open session. */
static int in_child(void (*act)(void), pid_t *ret_pid)
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        const struct rlimit no_core = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        (void)dup2(null, STDERR_FILENO);
        act();
        _exit(7);
    }
    if (ret_pid)
        *ret_pid = pid;
    else
        assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void act_sign(void)
{
    (void)sign_ec();
}

static void act_login(void)
{
    (void)p11->C_Login(session, CKU_USER, pin, 4);
}

static void act_initialize(void)
{
    (void)initialize();
}

static void test_crashes(void **state)
{
    static const struct {
        const char *name;
        void (*act)(void);
    } cases[] = {{"crash", act_sign}, {"login__crash", act_login}, {"crash_in_init", act_initialize}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t before = counted(cases[i].name);
        char line[96];
        int status;

        snprintf(line, sizeof line, "%s times=1\n", cases[i].name);
        faults(line);
        status = in_child(cases[i].act, NULL);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        assert_int_equal(counted(cases[i].name), before + 1); /* the counter survived */
        status = in_child(cases[i].act, NULL);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7); /* times= counts over processes */
    }
    faults("no_such_fault\n");
    assert_true(WIFSIGNALED(in_child(act_sign, NULL)));
    faults("sign__slow twelve\n");
    assert_true(WIFSIGNALED(in_child(act_sign, NULL)));
}

static void test_hang_until_switched_off(void **state)
{
    uint64_t before = counted("sign__hang");
    int status = 0;
    pid_t pid;

    (void)state;
    faults("sign__hang\n");
    (void)in_child(act_sign, &pid);
    for (int i = 0; counted("sign__hang") == before; i++) {
        struct timespec pause = {.tv_nsec = 10000000};

        assert_true(i < 1000);
        nanosleep(&pause, NULL); /* lint: between two looks at the counter that is waited for */
    }
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    faults("");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void test_readme_names_every_fault(void **state)
{
#define NAME(id, name, point, kind, value, aftermath) "`" name,
    static const char *const names[] = {FAULTS_TABLE(NAME)};
#undef NAME
    struct file_content readme = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(file_read(FAULTS_README_PATH, 65536, &readme, &err), ERROR_NONE);
    for (size_t i = 0; i < FAULTS_COUNT; i++) {
        const char *at = (const char *)readme.data;

        while ((at = strstr(at, names[i])) != NULL &&
               (isalnum((unsigned char)at[strlen(names[i])]) || at[strlen(names[i])] == '_'))
            at++;
        if (!at)
            fail_msg("README.md does not name %s`", names[i]);
    }
    file_content_free(&readme);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, test_setup, test_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_passes_through),
        TEST(test_sign_returns),
        TEST(test_session_is_gone),
        TEST(test_login_is_gone),
        TEST(test_device_is_gone),
        TEST(test_spoiled_signatures),
        TEST(test_der_ecdsa),
        TEST(test_login_returns),
        TEST(test_token_flags),
        TEST(test_pinpad),
        TEST(test_token_absent),
        TEST(test_other_slot),
        TEST(test_session_limits),
        TEST(test_initialize),
        TEST(test_mechanisms),
        TEST(test_pss_lies),
        TEST(test_objects),
        TEST(test_changes),
        TEST(test_always_authenticate),
        TEST(test_lost_on_interleave),
        TEST(test_times_and_after),
        TEST(test_slow_waits),
        TEST(test_serial_waits_for_the_other),
        TEST(test_crashes),
        TEST(test_hang_until_switched_off),
        cmocka_unit_test(test_readme_names_every_fault),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

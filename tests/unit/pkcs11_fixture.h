/*
 * A real SoftHSM2 token in a temporary folder for the tests of pkcs11/: provisioning through plain Cryptoki calls, a
 * small PKI, and a function table whose functions can be replaced one by one.
 */
#ifndef TOKENTLS_TESTS_PKCS11_FIXTURE_H
#define TOKENTLS_TESTS_PKCS11_FIXTURE_H

#include <dlfcn.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#define FIXTURE_PIN "123456"
#define FIXTURE_SO_PIN "12345678"

/* SoftHSM 2.6.1 leaks 37 bytes in each C_SignInit of an Ed25519 key, and was built without frame pointers. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libsofthsm2.so";
}
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}

static char fixture_folder[256];
static CK_FUNCTION_LIST fixture_functions; /* what tests call and change */
static CK_FUNCTION_LIST *fixture_real;     /* SoftHSM's own */

static inline const char *fixture_library_path(void)
{
    static const char *const paths[] = {"/usr/lib/softhsm/libsofthsm2.so",
                                        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                                        "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"};

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    fail_msg("SoftHSM2 is not installed");
    return NULL;
}

/* A path in the folder; one of the last eight results. */
static inline char *fixture_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", fixture_folder, name);
    return path;
}

static inline void fixture_write(const char *path, const void *data, size_t length)
{
    FILE *file;

    (void)unlink(path);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static inline void fixture_write_text(const char *path, const char *text)
{
    fixture_write(path, text, strlen(text));
}

/* The folder and SoftHSM's configuration; the module is not loaded. */
static inline int fixture_make_folder(void **state)
{
    char configuration[1024];
    const char *base = getenv("TMPDIR");

    (void)state;
    (void)snprintf(fixture_folder, sizeof(fixture_folder), "%s/tokentls-pkcs11-XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(fixture_folder));
    assert_int_equal(mkdir(fixture_path("tokens"), 0700), 0);
    (void)snprintf(configuration, sizeof(configuration),
                   "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", fixture_folder);
    fixture_write_text(fixture_path("softhsm2.conf"), configuration);
    assert_int_equal(setenv("SOFTHSM2_CONF", fixture_path("softhsm2.conf"), 1), 0);
    return 0;
}

/* SoftHSM loaded past p11-kit, with fixture_functions as a copy of its table. */
static inline int fixture_start(void **state)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_C_GetFunctionList get = NULL;
    void *library;

    (void)fixture_make_folder(state);
    library = dlopen(fixture_library_path(), RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    assert_non_null(get);
    assert_int_equal(get(&fixture_real), CKR_OK);
    assert_int_equal(fixture_real->C_Initialize(&args), CKR_OK);
    fixture_functions = *fixture_real;
    return 0;
}

static inline int fixture_remove(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int fixture_stop(void **state)
{
    (void)state;
    if (fixture_real != NULL)
        (void)fixture_real->C_Finalize(NULL);
    fixture_real = NULL;
    return nftw(fixture_folder, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* A new token; returns its slot. */
static inline CK_SLOT_ID fixture_new_token(const char *label)
{
    CK_SLOT_ID slots[64], slot;
    CK_ULONG n = 64;
    CK_SESSION_HANDLE session;
    unsigned char padded[32];

    assert_int_equal(fixture_real->C_GetSlotList(CK_TRUE, NULL, &n), CKR_OK);
    n = 64;
    assert_int_equal(fixture_real->C_GetSlotList(CK_TRUE, slots, &n), CKR_OK);
    slot = slots[n - 1]; /* SoftHSM keeps the blank one last */
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, label, strlen(label));
    assert_int_equal(fixture_real->C_InitToken(slot, (CK_BYTE_PTR)FIXTURE_SO_PIN, 8, padded), CKR_OK);
    assert_int_equal(fixture_real->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
                     CKR_OK);
    assert_int_equal(fixture_real->C_Login(session, CKU_SO, (CK_BYTE_PTR)FIXTURE_SO_PIN, 8), CKR_OK);
    assert_int_equal(fixture_real->C_InitPIN(session, (CK_BYTE_PTR)FIXTURE_PIN, 6), CKR_OK);
    assert_int_equal(fixture_real->C_Logout(session), CKR_OK);
    assert_int_equal(fixture_real->C_CloseSession(session), CKR_OK);
    return slot;
}

/* A logged-in read-write session for provisioning; end with fixture_close(). */
static inline CK_SESSION_HANDLE fixture_open(CK_SLOT_ID slot)
{
    CK_SESSION_HANDLE session;

    assert_int_equal(fixture_real->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
                     CKR_OK);
    assert_int_equal(fixture_real->C_Login(session, CKU_USER, (CK_BYTE_PTR)FIXTURE_PIN, 6), CKR_OK);
    return session;
}

static inline void fixture_close(CK_SESSION_HANDLE session)
{
    assert_int_equal(fixture_real->C_Logout(session), CKR_OK);
    assert_int_equal(fixture_real->C_CloseSession(session), CKR_OK);
}

/* "rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519" */
static inline EVP_PKEY *fixture_key(const char *kind)
{
    EVP_PKEY *key;

    if (strncmp(kind, "rsa", 3) == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(kind + 3));
    else if (strcmp(kind, "ed25519") == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    else
        key = EVP_PKEY_Q_keygen(NULL, NULL, "EC",
                                strcmp(kind, "p256") == 0   ? "P-256"
                                : strcmp(kind, "p384") == 0 ? "P-384"
                                                            : "P-521");
    assert_non_null(key);
    return key;
}

struct fixture_object {
    const char *label, *id; /* NULL: none */
    bool without_public;    /* store the private half only */
    bool always_authenticate;
    bool no_sign;
};

struct fixture_template {
    CK_ATTRIBUTE attributes[32];
    CK_ULONG n;
    unsigned char memory[16384];
    size_t used;
};

static inline void fixture_put(struct fixture_template *t, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
{
    assert_true(t->used + length <= sizeof(t->memory) && t->n < 32);
    memcpy(t->memory + t->used, value, length);
    t->attributes[t->n++] = (CK_ATTRIBUTE){type, t->memory + t->used, length};
    t->used += (length + 7) / 8 * 8;
}

static inline void fixture_put_bool(struct fixture_template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    CK_BBOOL byte = value ? CK_TRUE : CK_FALSE;

    fixture_put(t, type, &byte, 1);
}

static inline void fixture_put_ulong(struct fixture_template *t, CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
    fixture_put(t, type, &value, sizeof(value));
}

static inline void fixture_put_number(struct fixture_template *t, CK_ATTRIBUTE_TYPE type, EVP_PKEY *key,
                                      const char *name, size_t size)
{
    BIGNUM *number = NULL;
    unsigned char bytes[1024];

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    if (size == 0)
        size = (size_t)BN_num_bytes(number);
    assert_int_equal(BN_bn2binpad(number, bytes, (int)size), (int)size);
    fixture_put(t, type, bytes, size);
    BN_clear_free(number);
}

static inline void fixture_put_common(struct fixture_template *t, CK_OBJECT_CLASS class,
                                      const struct fixture_object *object, bool is_private)
{
    fixture_put_ulong(t, CKA_CLASS, class);
    fixture_put_bool(t, CKA_TOKEN, true);
    fixture_put_bool(t, CKA_PRIVATE, is_private);
    if (object->label != NULL)
        fixture_put(t, CKA_LABEL, object->label, strlen(object->label));
    if (object->id != NULL)
        fixture_put(t, CKA_ID, object->id, strlen(object->id));
}

static inline void fixture_create(CK_SESSION_HANDLE session, struct fixture_template *t)
{
    CK_OBJECT_HANDLE handle = 0;

    assert_int_equal(fixture_real->C_CreateObject(session, t->attributes, t->n, &handle), CKR_OK);
}

static inline void fixture_put_rsa(struct fixture_template *t, EVP_PKEY *key, bool is_private)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } parts[] = {
        {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D},   {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1},
        {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2},      {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1},
        {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2}, {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1},
    };

    fixture_put_ulong(t, CKA_KEY_TYPE, CKK_RSA);
    fixture_put_number(t, CKA_MODULUS, key, OSSL_PKEY_PARAM_RSA_N, 0);
    fixture_put_number(t, CKA_PUBLIC_EXPONENT, key, OSSL_PKEY_PARAM_RSA_E, 0);
    for (size_t i = 0; is_private && i < sizeof(parts) / sizeof(parts[0]); i++)
        fixture_put_number(t, parts[i].type, key, parts[i].name, 0);
}

static inline void fixture_put_point(struct fixture_template *t, const unsigned char *raw, size_t length)
{
    ASN1_OCTET_STRING *string = ASN1_OCTET_STRING_new();
    unsigned char *wrapped = NULL;
    int n;

    assert_int_equal(ASN1_OCTET_STRING_set(string, raw, (int)length), 1);
    n = i2d_ASN1_OCTET_STRING(string, &wrapped);
    assert_true(n > 0);
    fixture_put(t, CKA_EC_POINT, wrapped, (size_t)n);
    OPENSSL_free(wrapped);
    ASN1_OCTET_STRING_free(string);
}

static inline void fixture_put_ed25519(struct fixture_template *t, EVP_PKEY *key, bool is_private)
{
    static const unsigned char edwards[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r', 'd', 's', '2', '5', '5', '1', '9'};
    unsigned char raw[32];
    size_t length = sizeof(raw);

    fixture_put_ulong(t, CKA_KEY_TYPE, CKK_EC_EDWARDS);
    fixture_put(t, CKA_EC_PARAMS, edwards, sizeof(edwards));
    if (is_private) {
        assert_int_equal(EVP_PKEY_get_raw_private_key(key, raw, &length), 1);
        fixture_put(t, CKA_VALUE, raw, length);
        return;
    }
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, raw, &length), 1);
    fixture_put_point(t, raw, length);
}

static inline void fixture_put_ec(struct fixture_template *t, EVP_PKEY *key, bool is_private)
{
    static const unsigned char p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    static const unsigned char p384[] = {6, 5, 0x2b, 0x81, 4, 0, 0x22}, p521[] = {6, 5, 0x2b, 0x81, 4, 0, 0x23};
    unsigned char raw[256];
    size_t length = 0;
    int bits = EVP_PKEY_get_bits(key);

    fixture_put_ulong(t, CKA_KEY_TYPE, CKK_EC);
    fixture_put(t, CKA_EC_PARAMS, bits == 256 ? p256 : bits == 384 ? p384 : p521, bits == 256 ? 10 : 7);
    if (is_private) {
        fixture_put_number(t, CKA_VALUE, key, OSSL_PKEY_PARAM_PRIV_KEY, (size_t)(bits + 7) / 8);
        return;
    }
    assert_int_equal(
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, raw, sizeof(raw), &length), 1);
    fixture_put_point(t, raw, length);
}

static inline void fixture_put_key(struct fixture_template *t, EVP_PKEY *key, bool is_private)
{
    if (EVP_PKEY_is_a(key, "RSA"))
        fixture_put_rsa(t, key, is_private);
    else if (EVP_PKEY_is_a(key, "ED25519"))
        fixture_put_ed25519(t, key, is_private);
    else
        fixture_put_ec(t, key, is_private);
}

static inline void fixture_store_key(CK_SESSION_HANDLE session, const struct fixture_object *object, EVP_PKEY *key)
{
    struct fixture_template t = {.n = 0};

    fixture_put_common(&t, CKO_PRIVATE_KEY, object, true);
    fixture_put_bool(&t, CKA_SIGN, !object->no_sign);
    fixture_put_bool(&t, CKA_SENSITIVE, true);
    fixture_put_bool(&t, CKA_EXTRACTABLE, false);
    if (object->always_authenticate)
        fixture_put_bool(&t, CKA_ALWAYS_AUTHENTICATE, true);
    fixture_put_key(&t, key, true);
    fixture_create(session, &t);
    if (object->without_public)
        return;
    t = (struct fixture_template){.n = 0};
    fixture_put_common(&t, CKO_PUBLIC_KEY, object, false);
    fixture_put_bool(&t, CKA_VERIFY, true);
    fixture_put_key(&t, key, false);
    fixture_create(session, &t);
}

static inline void fixture_store_certificate(CK_SESSION_HANDLE session, const struct fixture_object *object,
                                             X509 *certificate)
{
    struct fixture_template t = {.n = 0};
    unsigned char *der = NULL, *subject = NULL;
    int length = i2d_X509(certificate, &der);
    int subject_length = i2d_X509_NAME(X509_get_subject_name(certificate), &subject);

    assert_true(length > 0 && subject_length > 0);
    fixture_put_common(&t, CKO_CERTIFICATE, object, false);
    fixture_put_ulong(&t, CKA_CERTIFICATE_TYPE, CKC_X_509);
    fixture_put(&t, CKA_VALUE, der, (size_t)length);
    fixture_put(&t, CKA_SUBJECT, subject, (size_t)subject_length);
    fixture_create(session, &t);
    OPENSSL_free(der);
    OPENSSL_free(subject);
}

/* "CN=name" signed by issuer (NULL: by itself), valid for `days` from an hour ago; `days` < 0: ended a minute ago. */
static inline X509 *fixture_certificate(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, int days)
{
    static long serial = 1;
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    EVP_PKEY *signer = issuer == NULL ? key : issuer_key;

    assert_int_equal(X509_set_version(certificate, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), days < 0 ? -60 : days * 86400L));
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(certificate, X509_get_subject_name(issuer == NULL ? certificate : issuer)),
                     1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, signer, EVP_PKEY_is_a(signer, "ED25519") ? NULL : EVP_sha256()) > 0);
    return certificate;
}

#endif

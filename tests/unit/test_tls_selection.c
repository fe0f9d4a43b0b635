/* What a library context for TLS offers and refuses, and that it works. */
#include "tls_fixture.h"

#include "../../tls/selection.c"

#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <openssl/store.h>

#define NAMES_MAX 4096

static struct libctx *for_tls(void)
{
    struct error err = ERROR_INIT;
    struct libctx *libctx = libctx_new_for_tls(&err);

    assert_non_null(libctx);
    assert_ptr_not_equal(libctx_get(libctx), libctx_complete(libctx));
    return libctx;
}

/* The first names of what a context has, one a line with the provider it says it is of, in the order of the alphabet.
 */
struct names {
    char *items[256];
    size_t n;
};

static void note(struct names *names, const char *name, const OSSL_PROVIDER *provider, const char *properties)
{
    char text[200];

    assert_string_equal(OSSL_PROVIDER_get0_name(provider), SELECTION_NAME);
    (void)snprintf(text, sizeof(text), "%s%s%s", name, properties == NULL ? "" : " ",
                   properties == NULL ? "" : properties);
    assert_true(names->n < sizeof(names->items) / sizeof(names->items[0]));
    names->items[names->n] = strdup(text);
    assert_non_null(names->items[names->n++]);
}

#define NOTE(type, TYPE)                                                                                               \
    static void note_##type(TYPE *algorithm, void *arg)                                                                \
    {                                                                                                                  \
        note(arg, TYPE##_get0_name(algorithm), TYPE##_get0_provider(algorithm), NULL);                                 \
    }

NOTE(digest, EVP_MD)
NOTE(cipher, EVP_CIPHER)
NOTE(mac, EVP_MAC)
NOTE(kdf, EVP_KDF)
NOTE(rand, EVP_RAND)
NOTE(keymgmt, EVP_KEYMGMT)
NOTE(exchange, EVP_KEYEXCH)
NOTE(signature, EVP_SIGNATURE)
NOTE(asymmetric, EVP_ASYM_CIPHER)
NOTE(kem, EVP_KEM)

static void note_decoder(OSSL_DECODER *decoder, void *arg)
{
    assert_non_null(strstr(OSSL_DECODER_get0_properties(decoder), "input=der"));
    assert_non_null(strstr(OSSL_DECODER_get0_properties(decoder), "structure=SubjectPublicKeyInfo"));
    note(arg, OSSL_DECODER_get0_name(decoder), OSSL_DECODER_get0_provider(decoder), NULL);
}

static void note_encoder(OSSL_ENCODER *encoder, void *arg)
{
    assert_non_null(strstr(OSSL_ENCODER_get0_properties(encoder), "output=der"));
    assert_non_null(strstr(OSSL_ENCODER_get0_properties(encoder), "structure=SubjectPublicKeyInfo"));
    note(arg, OSSL_ENCODER_get0_name(encoder), OSSL_ENCODER_get0_provider(encoder), NULL);
}

static void note_store(OSSL_STORE_LOADER *loader, void *arg)
{
    note(arg, "store", OSSL_STORE_LOADER_get0_provider(loader), NULL);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What `expected` lists, of which OpenSSL's own build may lack some; `names` is used up. */
static void expect(struct names *names, const char *what, const char *expected)
{
    char text[NAMES_MAX] = "";

    qsort(names->items, names->n, sizeof(names->items[0]), compare);
    for (size_t i = 0; i < names->n; i++) {
        if (i == 0 || strcmp(names->items[i], names->items[i - 1]) != 0)
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] == '\0' ? "" : " ",
                           names->items[i]);
    }
    for (size_t i = 0; i < names->n; i++)
        free(names->items[i]);
    names->n = 0;
    if (strcmp(text, expected) != 0)
        print_error("%s\n", what);
    assert_string_equal(text, expected);
}

/* Golden: what is added here can be misused by a peer, and makes each handshake dearer if it is a key or a decoder. */
static void offers_what_tls_needs_and_nothing_else(void **state)
{
    struct libctx *libctx = for_tls();
    OSSL_LIB_CTX *context = libctx_get(libctx);
    struct names names = {0};

    (void)state;
    EVP_MD_do_all_provided(context, note_digest, &names);
    expect(&names, "digests", "MD5 SHA1 SHA2-224 SHA2-256 SHA2-384 SHA2-512 SHA3-224 SHA3-256 SHA3-384 SHA3-512");
    EVP_CIPHER_do_all_provided(context, note_cipher, &names);
    expect(&names, "ciphers", "AES-128-GCM AES-256-CBC AES-256-CTR AES-256-GCM ChaCha20-Poly1305");
    EVP_MAC_do_all_provided(context, note_mac, &names);
    expect(&names, "MACs", "HMAC");
    EVP_KDF_do_all_provided(context, note_kdf, &names);
    expect(&names, "KDFs", "HKDF TLS1-PRF TLS13-KDF");
    EVP_RAND_do_all_provided(context, note_rand, &names);
    expect(&names, "random numbers", "CTR-DRBG SEED-SRC");
    EVP_KEYMGMT_do_all_provided(context, note_keymgmt, &names);
    expect(&names, "keys", "DSA EC ED25519 ED448 HMAC RSA RSA-PSS X25519");
    EVP_KEYEXCH_do_all_provided(context, note_exchange, &names);
    expect(&names, "key exchanges", "ECDH X25519");
    EVP_SIGNATURE_do_all_provided(context, note_signature, &names);
    expect(&names, "signatures", "DSA ECDSA ED25519 ED448 HMAC RSA");
    EVP_ASYM_CIPHER_do_all_provided(context, note_asymmetric, &names);
    expect(&names, "public key encryption", "");
    EVP_KEM_do_all_provided(context, note_kem, &names);
    expect(&names, "KEMs", "");
    OSSL_DECODER_do_all_provided(context, note_decoder, &names);
    expect(&names, "decoders", "DSA EC ED25519 ED448 RSA RSA-PSS");
    OSSL_ENCODER_do_all_provided(context, note_encoder, &names);
    expect(&names, "encoders", "DSA EC ED25519 ED448 RSA RSA-PSS");
    OSSL_STORE_LOADER_do_all_provided(context, note_store, &names);
    expect(&names, "stores", "");
    libctx_free(libctx);
}

static void what_is_outside_cannot_be_fetched(void **state)
{
    struct libctx *libctx = for_tls();
    OSSL_LIB_CTX *context = libctx_get(libctx);
    EVP_KEYMGMT *token;

    (void)state;
    assert_null(EVP_MD_fetch(context, "MD5-SHA1", NULL));
    assert_null(EVP_MD_fetch(context, "BLAKE2B-512", NULL));
    assert_null(EVP_CIPHER_fetch(context, "AES-128-CBC", NULL));
    assert_null(EVP_CIPHER_fetch(context, "DES-EDE3-CBC", NULL));
    assert_null(EVP_KDF_fetch(context, "PBKDF2", NULL));
    assert_null(EVP_KEYMGMT_fetch(context, "DH", NULL));
    assert_null(EVP_KEYMGMT_fetch(context, "SM2", NULL));
    assert_null(EVP_KEYEXCH_fetch(context, "DH", NULL));
    assert_null(EVP_ASYM_CIPHER_fetch(context, "RSA", NULL));
    assert_null(EVP_MD_fetch(context, "SHA256", "provider=other"));
    assert_null(EVP_KEYMGMT_fetch(context, "EC", "provider=tokentls"));
    token = EVP_KEYMGMT_fetch(libctx_complete(libctx), "EC", "provider=tokentls");
    assert_non_null(token);
    EVP_KEYMGMT_free(token);
    ERR_clear_error();
    libctx_free(libctx);
}

static int decoders_of(OSSL_LIB_CTX *context, const char *structure, int selection)
{
    EVP_PKEY *key = NULL;
    OSSL_DECODER_CTX *decoder = OSSL_DECODER_CTX_new_for_pkey(&key, NULL, structure, "EC", selection, context, NULL);
    int n = OSSL_DECODER_CTX_get_num_decoders(decoder);

    OSSL_DECODER_CTX_free(decoder);
    return n;
}

static void public_keys_are_decoded_and_private_ones_are_not(void **state)
{
    struct libctx *libctx = for_tls();
    EVP_PKEY *foreign = EVP_PKEY_Q_keygen(NULL, NULL, "X448");
    unsigned char *der = NULL;
    const unsigned char *at;

    (void)state;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        unsigned char *public_der = NULL, *private_der = NULL;
        int public_length = i2d_PUBKEY(make_key(kind), &public_der);
        int private_length = i2d_PrivateKey(make_key(kind), &private_der);
        EVP_PKEY *decoded;

        at = public_der;
        decoded = d2i_PUBKEY_ex(NULL, &at, public_length, libctx_get(libctx), NULL);
        assert_non_null(decoded);
        assert_int_equal(EVP_PKEY_eq(decoded, make_key(kind)), 1);
        EVP_PKEY_free(decoded);
        at = private_der;
        decoded = d2i_AutoPrivateKey_ex(NULL, &at, private_length, libctx_complete(libctx), NULL);
        assert_non_null(decoded);
        EVP_PKEY_free(decoded);
        OPENSSL_free(public_der);
        OPENSSL_free(private_der);
    }
    assert_int_equal(decoders_of(libctx_get(libctx), "SubjectPublicKeyInfo", EVP_PKEY_PUBLIC_KEY), 1);
    assert_int_equal(decoders_of(libctx_get(libctx), "PrivateKeyInfo", EVP_PKEY_KEYPAIR), 0);
    assert_true(decoders_of(libctx_complete(libctx), "PrivateKeyInfo", EVP_PKEY_KEYPAIR) > 0);
    assert_true(i2d_PUBKEY(foreign, &der) > 0);
    at = der;
    assert_null(d2i_PUBKEY_ex(NULL, &at, 200, libctx_get(libctx), NULL));
    ERR_clear_error();
    OPENSSL_free(der);
    EVP_PKEY_free(foreign);
    libctx_free(libctx);
}

static void random_numbers_and_the_rest_of_the_thread(void **state)
{
    struct libctx *libctx = for_tls();
    unsigned char a[32] = {0}, b[32] = {0};

    (void)state;
    assert_int_equal(RAND_bytes_ex(libctx_get(libctx), a, sizeof(a), 0), 1);
    assert_int_equal(RAND_priv_bytes_ex(libctx_get(libctx), b, sizeof(b), 0), 1);
    assert_memory_not_equal(a, b, sizeof(a));
    libctx_adopt(libctx);
    assert_int_equal(RAND_bytes(b, sizeof(b)), 1);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_null(EVP_MD_fetch(NULL, "BLAKE2B-512", NULL));
    assert_int_equal(EVP_Digest("x", 1, a, NULL, EVP_sha256(), NULL), 1);
    (void)OSSL_LIB_CTX_set0_default(OSSL_LIB_CTX_get0_global_default());
    ERR_clear_error();
    libctx_free(libctx);
}

static void contexts_come_and_go(void **state)
{
    struct libctx *first = for_tls(), *second = for_tls(), *third;
    EVP_MD *digest = EVP_MD_fetch(libctx_get(second), "SHA256", NULL);

    (void)state;
    assert_non_null(digest);
    EVP_MD_free(digest);
    libctx_free(first);
    third = for_tls();
    digest = EVP_MD_fetch(libctx_get(second), "SHA384", NULL);
    assert_non_null(digest);
    EVP_MD_free(digest);
    libctx_free(second);
    libctx_free(third);
}

/* An OpenSSL whose tables differ from context to context gets what it had before. */
static void falls_back_to_all_of_it(void **state)
{
    static const OSSL_ALGORITHM other[] = {{NULL, NULL, NULL, NULL}};
    const OSSL_ALGORITHM *before;
    struct error err = ERROR_INIT;
    struct libctx *libctx = for_tls();
    EVP_MD *digest;

    (void)state;
    libctx_free(libctx);
    before = shown.offered[CHOICES - 1];
    shown.offered[CHOICES - 1] = other;
    libctx = libctx_new_for_tls(&err);
    shown.offered[CHOICES - 1] = before;
    assert_non_null(libctx);
    assert_ptr_equal(libctx_get(libctx), libctx_complete(libctx));
    digest = EVP_MD_fetch(libctx_get(libctx), "BLAKE2B-512", NULL);
    assert_non_null(digest);
    EVP_MD_free(digest);
    assert_int_equal(ERR_peek_error(), 0);
    libctx_free(libctx);
}

static void only_whole_names_are_chosen(void **state)
{
    const struct choice *choice = &choices[CHOICES - 1];
    const OSSL_ALGORITHM good = {"x:EC:y", "provider=default,input=der,structure=SubjectPublicKeyInfo", NULL, NULL};
    OSSL_ALGORITHM bad = good;

    (void)state;
    assert_int_equal(choice->operation, OSSL_OP_DECODER);
    assert_true(is_chosen(choice, &good));
    bad.algorithm_names = "x:ECX:y";
    assert_false(is_chosen(choice, &bad));
    bad.algorithm_names = "";
    assert_false(is_chosen(choice, &bad));
    bad = good;
    bad.property_definition = "provider=default,input=der,structure=SubjectPublicKeyInfo2";
    assert_false(is_chosen(choice, &bad));
    bad.property_definition = NULL;
    assert_false(is_chosen(choice, &bad));
}

static EVP_PKEY *decode_public(const unsigned char *der, int length)
{
    const unsigned char *at = der;

    return d2i_PUBKEY(NULL, &at, length);
}

static void algorithms_are_set_aside_and_taken_back(void **state)
{
    struct libctx *libctx = for_tls();
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(NULL);
    EVP_PKEY *key = EVP_EC_gen("P-256"), *again;
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);

    (void)state;
    libctx_take_back(libctx); /* nothing is set aside */
    assert_ptr_equal(OSSL_LIB_CTX_set0_default(NULL), before);
    for (int i = 0; i < 2; i++) {
        libctx_set_aside(libctx);
        libctx_set_aside(libctx); /* once is enough */
        assert_null(decode_public(der, length));
        assert_null(EVP_MD_fetch(NULL, "SHA256", NULL));
        libctx_take_back(libctx);
        assert_ptr_equal(OSSL_LIB_CTX_set0_default(NULL), before);
        again = decode_public(der, length);
        assert_non_null(again);
        EVP_PKEY_free(again);
    }
    ERR_clear_error();
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    libctx_free(libctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_what_tls_needs_and_nothing_else),
        cmocka_unit_test(what_is_outside_cannot_be_fetched),
        cmocka_unit_test(public_keys_are_decoded_and_private_ones_are_not),
        cmocka_unit_test(random_numbers_and_the_rest_of_the_thread),
        cmocka_unit_test(contexts_come_and_go),
        cmocka_unit_test(falls_back_to_all_of_it),
        cmocka_unit_test(algorithms_are_set_aside_and_taken_back),
        cmocka_unit_test(only_whole_names_are_chosen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

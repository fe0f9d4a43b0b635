/* Signatures straight on a PKCS#11 module: one session for each thread, one SHA-256 digest signed again and again. */
#include "base/text.h"
#include "bounds.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 64
#define SLOTS_MAX 64
#define DIGEST_INFO_BYTES 51 /* DigestInfo of SHA-256: 19 bytes of head and the digest */

struct signer {
    pthread_t thread;
    CK_SESSION_HANDLE session;
    unsigned long signatures;
};

static CK_FUNCTION_LIST *module;
static CK_OBJECT_HANDLE key;
static CK_MECHANISM mechanism;
static CK_ULONG input_bytes;
static double end;

static void must(CK_RV rv, const char *what)
{
    if (rv == CKR_OK)
        return;
    (void)fprintf(stderr, "bounds: %s: 0x%lx\n", what, rv);
    exit(1);
}

static CK_SLOT_ID find_slot(const char *label)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;
    size_t length = strlen(label);

    must(module->C_GetSlotList(CK_TRUE, slots, &n), "C_GetSlotList");
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;

        if (module->C_GetTokenInfo(slots[i], &info) == CKR_OK && length <= sizeof(info.label) &&
            memcmp(info.label, label, length) == 0)
            return slots[i];
    }
    (void)fprintf(stderr, "bounds: no token %s\n", label);
    exit(1);
}

static void find_key(CK_SESSION_HANDLE session, char *label)
{
    CK_OBJECT_CLASS private_key = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_EC;
    CK_ATTRIBUTE wanted[] = {{CKA_CLASS, &private_key, sizeof(private_key)}, {CKA_LABEL, label, strlen(label)}};
    CK_ATTRIBUTE kind = {CKA_KEY_TYPE, &type, sizeof(type)};
    CK_ULONG n = 0;

    must(module->C_FindObjectsInit(session, wanted, 2), "C_FindObjectsInit");
    must(module->C_FindObjects(session, &key, 1, &n), "C_FindObjects");
    must(module->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    if (n != 1) {
        (void)fprintf(stderr, "bounds: no key %s\n", label);
        exit(1);
    }
    must(module->C_GetAttributeValue(session, key, &kind, 1), "C_GetAttributeValue");
    mechanism.mechanism = type == CKK_EC ? CKM_ECDSA : CKM_RSA_PKCS;
    input_bytes = type == CKK_EC ? 32 : DIGEST_INFO_BYTES;
}

static void *work(void *argument)
{
    struct signer *signer = argument;
    CK_BYTE input[DIGEST_INFO_BYTES] = {1, 2, 3};

    while (bounds_seconds(CLOCK_MONOTONIC) < end) {
        CK_BYTE signature[1024];
        CK_ULONG size = sizeof(signature);

        must(module->C_SignInit(signer->session, &mechanism, key), "C_SignInit");
        must(module->C_Sign(signer->session, input, input_bytes, signature, &size), "C_Sign");
        signer->signatures++;
    }
    return NULL;
}

static void open_module(const char *path)
{
    CK_C_INITIALIZE_ARGS arguments = {.flags = CKF_OS_LOCKING_OK};
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get_list;

    if (library == NULL) {
        (void)fprintf(stderr, "bounds: %s\n", dlerror());
        exit(1);
    }
    *(void **)&get_list = dlsym(library, "C_GetFunctionList");
    if (get_list == NULL)
        exit(1);
    must(get_list(&module), "C_GetFunctionList");
    must(module->C_Initialize(&arguments), "C_Initialize");
}

static void log_in(CK_SESSION_HANDLE session, const char *pin_file)
{
    FILE *file = fopen(pin_file, "r");
    char pin[64] = "";

    if (file == NULL || fgets(pin, sizeof(pin), file) == NULL) {
        perror(pin_file);
        exit(1);
    }
    (void)fclose(file);
    pin[strcspn(pin, "\n")] = '\0';
    must(module->C_Login(session, CKU_USER, (CK_BYTE *)pin, strlen(pin)), "C_Login");
}

int bounds_sign(char **words)
{
    struct signer signers[THREADS_MAX] = {0};
    CK_SLOT_ID slot;
    uint64_t threads;
    uint64_t window_ms;
    double begin;
    double cpu;
    unsigned long total = 0;

    if (!text_parse_number(words[4], 1, THREADS_MAX, &threads) || !text_parse_number(words[5], 1, 1000000, &window_ms))
        return 2;
    open_module(words[0]);
    slot = find_slot(words[1]);
    for (uint64_t i = 0; i < threads; i++)
        must(module->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &signers[i].session), "C_OpenSession");
    log_in(signers[0].session, words[2]);
    find_key(signers[0].session, words[3]);
    begin = bounds_seconds(CLOCK_MONOTONIC);
    cpu = bounds_seconds(CLOCK_PROCESS_CPUTIME_ID);
    end = begin + (double)window_ms / 1000;
    for (uint64_t i = 0; i < threads; i++)
        if (pthread_create(&signers[i].thread, NULL, work, &signers[i]) != 0)
            return 1;
    for (uint64_t i = 0; i < threads; i++) {
        (void)pthread_join(signers[i].thread, NULL);
        total += signers[i].signatures;
    }
    (void)printf("{\"signatures\":%lu,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", total,
                 bounds_seconds(CLOCK_MONOTONIC) - begin, bounds_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}

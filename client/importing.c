#include "client/importing.h"

#include "base/text.h"
#include "client/provisioning.h"
#include "pkcs11/generate.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <stdlib.h>

result importing_check(const struct importing *what, struct error *err)
{
    uint8_t id[GENERATE_ID_MAX];
    size_t length = 0;

    if (what->id == NULL || (text_parse_hex(what->id, id, sizeof(id), &length) && length > 0))
        return ERROR_NONE;
    return error_set(err, ERROR_USAGE, "--id: 1 to %d bytes in hex are wanted", GENERATE_ID_MAX);
}

static bool add_certificate(cJSON *list, const X509 *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);
    size_t size = length > 0 ? 2 * (size_t)length + 1 : 0;
    char *hex = length > 0 ? malloc(size) : NULL;
    bool added =
        hex != NULL && cJSON_AddItemToArray(list, cJSON_CreateString(text_hex(der, (size_t)length, '\0', hex, size)));

    free(hex);
    OPENSSL_free(der);
    return added;
}

static void print_outcome(const cJSON *answer, FILE *out)
{
    const cJSON *stored = cJSON_GetObjectItemCaseSensitive(answer, "issuers-stored");
    const cJSON *present = cJSON_GetObjectItemCaseSensitive(answer, "issuers-present");
    const cJSON *unused = cJSON_GetObjectItemCaseSensitive(answer, "unused");

    (void)fprintf(out, "certificate  %s\n", provisioning_text(answer, "subject"));
    (void)fprintf(out, "  stored as  %s\n", provisioning_text(answer, "certificate"));
    (void)fprintf(out, "  key        %s\n", provisioning_text(answer, "key"));
    (void)fprintf(out, "issuers      %.0f stored, %.0f there already, %.0f left out (roots, others)\n",
                  cJSON_GetNumberValue(stored), cJSON_GetNumberValue(present), cJSON_GetNumberValue(unused));
}

result importing_run(struct provisioning *provisioning, const struct importing *what, FILE *out, struct error *err)
{
    struct provisioning_job job = {
        .job = provisioning_job_new("import"), .doing = "storing the certificates", .pass = -1};
    cJSON *list = cJSON_AddArrayToObject(job.job, "certificates"), *answer = NULL;
    result r;

    for (size_t i = 0; i < what->n; i++) {
        if (!add_certificate(list, what->certificates[i])) {
            cJSON_Delete(job.job);
            return error_set(err, ERROR_INTERNAL, "out of memory");
        }
    }
    if (what->id != NULL)
        (void)cJSON_AddStringToObject(job.job, "id", what->id);
    if (what->label != NULL)
        (void)cJSON_AddStringToObject(job.job, "label", what->label);
    r = provisioning_do(provisioning, &job, &answer, err);
    if (r == ERROR_NONE)
        print_outcome(answer, out);
    cJSON_Delete(answer);
    return r;
}

#include "tls/verify/ocsp_file.h"

#include "tls/verify/ocsp.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

/* PEM is a third longer than DER. */
#define FILE_MAX (2 * OCSP_RESPONSE_MAX)

#define PEM_BEGIN "-----BEGIN "
#define PEM_NAME "OCSP RESPONSE"

static bool is_response(const uint8_t *der, size_t length)
{
    const unsigned char *at = der;
    OCSP_RESPONSE *response = length > OCSP_RESPONSE_MAX ? NULL : d2i_OCSP_RESPONSE(NULL, &at, (long)length);
    bool good = response != NULL && at == der + length;

    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    return good;
}

/* Put the DER of the one PEM block in the place of the text, which is longer. */
static bool decode_pem(struct file_content *content)
{
    BIO *bio = BIO_new_mem_buf(content->data, (int)content->length);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long length = 0;
    bool good = bio != NULL && PEM_read_bio(bio, &name, &header, &der, &length) == 1 && strcmp(name, PEM_NAME) == 0 &&
                length > 0 && (size_t)length <= content->length;

    if (good) {
        memcpy(content->data, der, (size_t)length);
        content->length = (size_t)length;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    ERR_clear_error();
    return good;
}

result ocsp_file_load(const char *path, struct file_content *ret, struct error *err)
{
    struct file_content content = {0};
    result res = file_read(path, FILE_MAX, &content, err);
    bool pem;

    if (res != ERROR_NONE)
        return res;
    pem = content.length > strlen(PEM_BEGIN) && memcmp(content.data, PEM_BEGIN, strlen(PEM_BEGIN)) == 0;
    if ((pem && !decode_pem(&content)) || !is_response(content.data, content.length)) {
        file_content_free(&content);
        return error_set(err, ERROR_VERIFY, "%s: is not one OCSP response (DER, or PEM \"" PEM_NAME "\")", path);
    }
    *ret = content;
    return ERROR_NONE;
}

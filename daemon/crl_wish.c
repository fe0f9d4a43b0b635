#include "daemon/crl_wish.h"

#include "net/url.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static bool is_known(const struct crl_wish *wish, const char *url)
{
    for (size_t i = 0; i < wish->n; i++) {
        if (strcmp(wish->urls[i], url) == 0)
            return true;
    }
    return false;
}

static bool take_url(struct crl_wish *wish, const ASN1_STRING *name)
{
    int length = ASN1_STRING_length(name);
    char text[URL_MAX + 1];
    struct url url;

    if (length <= 0 || length > URL_MAX || memchr(ASN1_STRING_get0_data(name), 0, (size_t)length) != NULL)
        return false;
    memcpy(text, ASN1_STRING_get0_data(name), (size_t)length);
    text[length] = '\0';
    if (url_parse(text, &url, NULL) != ERROR_NONE || is_known(wish, text) || wish->n == CRL_WISH_URLS_MAX)
        return false;
    wish->urls[wish->n] = strdup(text);
    wish->n += wish->urls[wish->n] != NULL;
    return true;
}

static void take_points(struct crl_wish *wish, const X509 *certificate, int extension)
{
    CRL_DIST_POINTS *points = X509_get_ext_d2i(certificate, extension, NULL, NULL);
    int taken = 0;

    for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT_NAME *point = sk_DIST_POINT_value(points, i)->distpoint;
        const GENERAL_NAMES *names = point != NULL && point->type == 0 ? point->name.fullname : NULL;

        for (int k = 0; k < sk_GENERAL_NAME_num(names) && taken < CRL_WISH_URLS_PER_CERTIFICATE; k++) {
            const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, k);

            taken += name->type == GEN_URI && take_url(wish, name->d.uniformResourceIdentifier);
        }
    }
    CRL_DIST_POINTS_free(points);
}

static void take_issuer(struct crl_wish *wish, X509 *certificate)
{
    unsigned char *der = NULL;
    int length = i2d_X509(certificate, &der);

    if (length > 0 && wish->issuers_length + (size_t)length <= CRL_WISH_ISSUERS_MAX) {
        memcpy(wish->issuers + wish->issuers_length, der, (size_t)length);
        wish->issuers_length += (size_t)length;
    }
    OPENSSL_free(der);
}

struct crl_wish *crl_wish_new(size_t service, const STACK_OF(X509) * path)
{
    struct crl_wish *wish = calloc(1, sizeof(*wish));
    int n = sk_X509_num(path);

    if (wish == NULL)
        return NULL;
    wish->service = service;
    for (int i = 0; i + 1 < n; i++) {
        take_points(wish, sk_X509_value(path, i), NID_crl_distribution_points);
        take_points(wish, sk_X509_value(path, i), NID_freshest_crl);
    }
    ERR_clear_error();
    wish->issuers = wish->n > 0 ? malloc(CRL_WISH_ISSUERS_MAX) : NULL;
    if (wish->issuers == NULL) {
        crl_wish_free(wish);
        return NULL;
    }
    for (int i = 1; i < n; i++)
        take_issuer(wish, sk_X509_value(path, i));
    return wish;
}

void crl_wish_free(struct crl_wish *wish)
{
    if (wish == NULL)
        return;
    for (size_t i = 0; i < wish->n; i++)
        free(wish->urls[i]);
    free(wish->issuers);
    free(wish);
}

#include "tls/verify/name.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* RFC 1035: 253 characters, a trailing dot, brackets around IPv6. */
#define HOSTNAME_MAX 256

/* Bytes of the address, 0 when `hostname` is not an address literal. */
static size_t parse_address(const char *hostname, uint8_t address[16])
{
    char bare[HOSTNAME_MAX];
    size_t length = strlen(hostname);

    if (inet_pton(AF_INET, hostname, address) == 1)
        return 4;
    if (hostname[0] == '[' && length > 2 && length < sizeof(bare) && hostname[length - 1] == ']') {
        memcpy(bare, hostname + 1, length - 2);
        bare[length - 2] = '\0';
        hostname = bare;
    }
    return inet_pton(AF_INET6, hostname, address) == 1 ? 16 : 0;
}

static void describe_name(const GENERAL_NAME *name, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";

    out[0] = '\0';
    if (name->type == GEN_DNS) {
        text_escape(ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName), out, size);
    } else if (name->type == GEN_IPADD) {
        int length = ASN1_STRING_length(name->d.iPAddress);

        if (length == 4 || length == 16)
            (void)inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
                            sizeof(text));
        (void)snprintf(out, size, "%s", text);
    }
}

/* "a.example, 192.0.2.1, ..." as far as it fits. */
static void list_names(X509 *leaf, char *out, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char one[128];
        int n;

        describe_name(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
        if (one[0] == '\0')
            continue;
        n = snprintf(out + used, size - used, "%s%s", used > 0 ? ", " : "", one);
        if (n < 0 || (size_t)n >= size - used) {
            (void)snprintf(out + used, size - used, "%s", used + 6 < size ? ", ..." : "");
            break;
        }
        used += (size_t)n;
    }
    GENERAL_NAMES_free(names);
}

bool name_is_address(const char *hostname)
{
    uint8_t address[16];

    return parse_address(hostname, address) > 0;
}

bool name_matches(X509 *leaf, const char *hostname, bool allow_cn, char *why, size_t size)
{
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | (allow_cn ? 0U : X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    size_t length = strlen(hostname);
    uint8_t address[16];
    size_t address_length = parse_address(hostname, address);
    char carried[128], wanted[128];
    bool matches;

    if (length > 1 && hostname[length - 1] == '.')
        length--;
    if (address_length > 0)
        matches = X509_check_ip(leaf, address, address_length, 0) == 1;
    else
        matches = length > 0 && length < HOSTNAME_MAX && hostname[0] != '.' &&
                  X509_check_host(leaf, hostname, length, flags, NULL) == 1;
    ERR_clear_error();
    if (matches)
        return true;
    list_names(leaf, carried, sizeof(carried));
    text_escape(hostname, strlen(hostname), wanted, sizeof(wanted));
    if (carried[0] != '\0')
        (void)snprintf(why, size, "it is for %s, not for %s", carried, wanted);
    else
        (void)snprintf(why, size, "it has no DNS name or address in subjectAltName, so it is not for %s", wanted);
    return false;
}

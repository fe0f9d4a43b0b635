#include "client/explain_help.h"

#include "base/text.h"
#include "tls/failure.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/sslerr.h>
#include <openssl/tls1.h>
#include <string.h>

#define PROBE "tokentls probe HOST:PORT"
#define PROBE_IDENTITY "tokentls probe --identity URI HOST:PORT"
#define LIST "tokentls list --login"
#define VERSIONS "the two sides have no version, cipher, group or signature algorithm in common"
#define FAULTY "one side is faulty, or something in between changes the bytes"

bool explain_help_alert(int alert, struct explain_help *ret)
{
    /* Where the next step is not a look at what the server wants. */
    static const struct {
        int alert;
        const char *next;
    } steps[] = {
        {SSL_AD_BAD_CERTIFICATE, PROBE_IDENTITY},
        {SSL_AD_UNSUPPORTED_CERTIFICATE, LIST},
        {SSL_AD_CERTIFICATE_REVOKED, "tokentls enroll --renew URI"},
        {SSL_AD_CERTIFICATE_EXPIRED,
         "tokentls enroll --renew URI, if tokentls list shows that it has ended; else date"},
        {SSL_AD_CERTIFICATE_UNKNOWN, PROBE_IDENTITY},
        {SSL_AD_UNKNOWN_CA, PROBE_IDENTITY},
        {SSL_AD_ACCESS_DENIED, "ask who runs the server whether your certificate is on its list"},
        {SSL_AD_DECRYPT_ERROR, "tokentls doctor --config FILE --test-signature"},
        {SSL_AD_HANDSHAKE_FAILURE, PROBE_IDENTITY},
        {SSL_AD_NO_CERTIFICATE, LIST},
        {SSL_AD_CERTIFICATE_REQUIRED, "tokentls list --login, then connect with --identity URI"},
        {SSL_AD_UNRECOGNIZED_NAME, "tokentls probe --server-name NAME HOST:PORT"},
        {SSL_AD_NO_APPLICATION_PROTOCOL, "tokentls probe shows the protocols; then --alpn NAME"},
        {SSL_AD_INTERNAL_ERROR, "ask who runs the server for the line in its log"},
    };
    const char *advice = failure_alert_advice(alert);

    if (*advice == '\0')
        return false;
    *ret = (struct explain_help){.words = failure_alert_words(alert), .cause = advice, .next = PROBE};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (steps[i].alert == alert)
            ret->next = steps[i].next;
    }
    return true;
}

/* What a client's handshake ends with when it is libssl that gives up. */
static const struct {
    int reason;
    struct explain_help help;
} openssl_reasons[] = {
    {SSL_R_WRONG_VERSION_NUMBER, {"the answer is no TLS", "a port that speaks plain text or another protocol", PROBE}},
    {SSL_R_HTTP_REQUEST, {"plain HTTP came", "http and https are mixed up", PROBE}},
    {SSL_R_HTTPS_PROXY_REQUEST, {"a proxy request came", "a proxy and a server are mixed up", PROBE}},
    {SSL_R_BAD_RECORD_TYPE, {"the answer is no TLS", FAULTY, PROBE}},
    {SSL_R_RECORD_LENGTH_MISMATCH, {"a record has a wrong length", FAULTY, PROBE}},
    {SSL_R_PACKET_LENGTH_TOO_LONG, {"a record is too long", FAULTY, PROBE}},
    {SSL_R_ENCRYPTED_LENGTH_TOO_LONG, {"a record is too long", FAULTY, PROBE}},
    {SSL_R_DATA_LENGTH_TOO_LONG, {"a record is too long", FAULTY, PROBE}},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, {"a record does not decrypt", FAULTY, "try again; then " PROBE}},
    {SSL_R_UNEXPECTED_EOF_WHILE_READING,
     {"the server hung up in the middle", "it refuses this client without saying so, or it crashed", PROBE_IDENTITY}},
    {SSL_R_UNSUPPORTED_PROTOCOL, {"the server wants another TLS version", "it has only what is out of use", PROBE}},
    {SSL_R_VERSION_TOO_LOW, {"the server wants an older TLS version", "it has only what is out of use", PROBE}},
    {SSL_R_NO_PROTOCOLS_AVAILABLE,
     {"no TLS version is left", "--tls and the system's policy exclude each other", "leave --tls out"}},
    {SSL_R_WRONG_SSL_VERSION, {"the server chose a version that was not offered", FAULTY, PROBE}},
    {SSL_R_INAPPROPRIATE_FALLBACK, {"a fallback was refused", FAULTY, PROBE}},
    {SSL_R_NO_CIPHERS_AVAILABLE, {"no cipher is left", VERSIONS, "tokentls probe --all-ciphers HOST:PORT"}},
    {SSL_R_NO_SHARED_CIPHER, {"no cipher is shared", VERSIONS, "tokentls probe --all-ciphers HOST:PORT"}},
    {SSL_R_UNKNOWN_CIPHER_RETURNED, {"the server chose a cipher that is not known", FAULTY, PROBE}},
    {SSL_R_WRONG_CIPHER_RETURNED, {"the server chose a cipher that was not offered", FAULTY, PROBE}},
    {SSL_R_CIPHERSUITE_DIGEST_HAS_CHANGED, {"the server changed its mind about the cipher", FAULTY, PROBE}},
    {SSL_R_NO_SUITABLE_KEY_SHARE, {"no group for the key exchange is shared", VERSIONS, PROBE}},
    {SSL_R_NO_SUITABLE_GROUPS, {"no group for the key exchange is shared", VERSIONS, PROBE}},
    {SSL_R_BAD_KEY_SHARE, {"the key exchange is not as it should be", FAULTY, PROBE}},
    {SSL_R_BAD_ECPOINT, {"the key exchange is not as it should be", FAULTY, PROBE}},
    {SSL_R_WRONG_CURVE, {"the server chose a curve that was not offered", FAULTY, PROBE}},
    {SSL_R_DH_KEY_TOO_SMALL, {"the server's Diffie-Hellman key is too small", "it is out of date", PROBE}},
    {SSL_R_EE_KEY_TOO_SMALL, {"the key of a certificate is too small", "RSA below 2048 bits is out of use", PROBE}},
    {SSL_R_CA_KEY_TOO_SMALL, {"the key of a CA is too small", "RSA below 2048 bits is out of use", PROBE}},
    {SSL_R_CA_MD_TOO_WEAK, {"a certificate is signed with a weak hash", "SHA-1 is out of use", PROBE}},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
     {"no signature algorithm is shared", "the token cannot make what the server takes", PROBE_IDENTITY}},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS,
     {"no signature algorithm is shared", "the token cannot make what the server takes", PROBE_IDENTITY}},
    {SSL_R_WRONG_SIGNATURE_TYPE,
     {"the server signs with an algorithm that was not offered", "it is out of date, or TLS 1.3 with a key of TLS 1.2",
      "tokentls connect --tls 1.2"}},
    {SSL_R_ILLEGAL_POINT_COMPRESSION, {"the server's key is written in a form that is not taken", FAULTY, PROBE}},
    {SSL_R_BAD_SIGNATURE, {"a signature does not fit the certificate", "the server has the wrong key", PROBE}},
    {SSL_R_BAD_LENGTH, {"a message has a wrong length", FAULTY, PROBE}},
    {SSL_R_LENGTH_MISMATCH, {"a message has a wrong length", FAULTY, PROBE}},
    {SSL_R_LENGTH_TOO_SHORT, {"a message is too short", FAULTY, PROBE}},
    {SSL_R_BAD_EXTENSION, {"an extension is not as it should be", FAULTY, PROBE}},
    {SSL_R_UNSOLICITED_EXTENSION, {"the server answers what was not asked", FAULTY, PROBE}},
    {SSL_R_MISSING_SIGALGS_EXTENSION, {"an extension is missing", FAULTY, PROBE}},
    {SSL_R_MISSING_SUPPORTED_GROUPS_EXTENSION, {"an extension is missing", FAULTY, PROBE}},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE,
     {"a message is larger than is taken", "a very long certificate chain, or list of CAs", PROBE}},
    {SSL_R_UNEXPECTED_MESSAGE, {"a message came that does not belong there", FAULTY, PROBE}},
    {SSL_R_UNEXPECTED_CCS_MESSAGE, {"a message came that does not belong there", FAULTY, PROBE}},
    {SSL_R_CERT_LENGTH_MISMATCH, {"the server's certificate has a wrong length", FAULTY, PROBE}},
    {SSL_R_NO_CERTIFICATES_RETURNED, {"the server shows no certificate", "it is not set up yet", PROBE}},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, {"a certificate is not trusted", "its CA is not in --trust", PROBE}},
    {SSL_R_WRONG_CERTIFICATE_TYPE, {"the server's certificate is of a wrong kind", FAULTY, PROBE}},
    {SSL_R_DIGEST_CHECK_FAILED, {"the Finished message is wrong", FAULTY, PROBE}},
    {SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED,
     {"the server does not have RFC 5746", "it was not updated since 2010", "ask who runs the server to update it"}},
    {SSL_R_RENEGOTIATION_MISMATCH, {"the server renegotiates in another way", FAULTY, PROBE}},
    {SSL_R_RENEGOTIATION_ENCODING_ERR, {"the server renegotiates in another way", FAULTY, PROBE}},
    {SSL_R_BAD_DIGEST_LENGTH, {"a hash has a wrong length", FAULTY, PROBE}},
    {SSL_R_TOO_MANY_WARN_ALERTS, {"the server sends nothing but warnings", FAULTY, PROBE}},
    {SSL_R_TOO_MANY_KEY_UPDATES, {"the server changes keys without end", FAULTY, PROBE}},
    {SSL_R_READ_TIMEOUT_EXPIRED, {"the server was silent for too long", "it, or a firewall, is overloaded", PROBE}},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED,
     {"the server wants a client certificate", "none was shown",
      "tokentls list --login, then connect with --identity URI"}},
};

bool explain_help_openssl(unsigned long code, struct explain_help *ret)
{
    int reason = ERR_GET_REASON(code);

    if (code == 0 || ERR_GET_LIB(code) != ERR_LIB_SSL)
        return false;
    /* Alerts that were received are numbered 1000 and up. */
    if (reason >= SSL_AD_REASON_OFFSET && explain_help_alert(reason - SSL_AD_REASON_OFFSET, ret))
        return true;
    for (size_t i = 0; i < sizeof(openssl_reasons) / sizeof(openssl_reasons[0]); i++) {
        if (openssl_reasons[i].reason == reason) {
            *ret = openssl_reasons[i].help;
            return true;
        }
    }
    *ret = (struct explain_help){"libssl gave the handshake up", FAULTY, PROBE "; tokentls connect --tls 1.2"};
    return true;
}

/* c-ares' own sentences; a unit test holds them against the library. */
static const struct {
    const char *text;
    struct explain_help help;
} resolver_texts[] = {
    {"Domain name not found",
     {"there is no such name", "a typing error, or a name of another network (VPN)", "getent hosts NAME"}},
    {"DNS server returned answer with no data",
     {"the name exists, but has no address", "it is meant for something else, such as mail", "getent ahosts NAME"}},
    {"Timeout while contacting DNS servers",
     {"the name servers do not answer", "the network is down, or a firewall drops DNS", "cat /etc/resolv.conf"}},
    {"Could not contact DNS servers",
     {"the name servers cannot be reached", "the network is down, or /etc/resolv.conf is wrong",
      "cat /etc/resolv.conf"}},
    {"DNS server returned general failure",
     {"the name server has failed", "the domain's own servers are broken, or DNSSEC fails", "ask who runs the domain"}},
    {"DNS server refused query",
     {"the name server refuses to answer", "it is not meant for this network", "cat /etc/resolv.conf"}},
    {"DNS server claims query was misformatted",
     {"the name server does not understand the question", "a name that is no host name", "correct the name"}},
    {"DNS server does not implement requested operation",
     {"the name server cannot answer this", "it is an odd one", "cat /etc/resolv.conf"}},
    {"Misformatted DNS reply",
     {"the name server's answer is broken", "something in between changes DNS", "cat /etc/resolv.conf"}},
    {"Misformatted domain name", {"this cannot be a host name", "a typing error", "correct the name"}},
    {"Misformatted DNS query", {"this cannot be asked", "a typing error in the name", "correct the name"}},
    {"the name has no address",
     {"the name exists, but has no address", "it is meant for something else, such as mail", "getent ahosts NAME"}},
};

bool explain_help_resolver(const char *text, struct explain_help *ret)
{
    const char *reason = strstr(text, "cannot resolve: ");

    if (reason == NULL)
        return false;
    for (size_t i = 0; i < sizeof(resolver_texts) / sizeof(resolver_texts[0]); i++) {
        if (strstr(reason, resolver_texts[i].text) != NULL) {
            *ret = resolver_texts[i].help;
            return true;
        }
    }
    *ret =
        (struct explain_help){"the name cannot be resolved", "the network or its name servers", "cat /etc/resolv.conf"};
    return true;
}

bool explain_help_socket(int errnum, struct explain_help *ret)
{
    static const struct {
        int errnum;
        struct explain_help help;
    } errors[] = {
        {ECONNREFUSED,
         {"nobody listens there", "the server is not running, or it is another port", "ask for the right port"}},
        {ETIMEDOUT, {"nothing comes back", "a firewall drops the packets, or the machine is off", "tracepath HOST"}},
        {EHOSTUNREACH, {"there is no way to the machine", "it is off, or a VPN is down", "ip route get ADDRESS"}},
        {ENETUNREACH, {"there is no way to that network", "no route, or no IPv6 here", "ip route get ADDRESS"}},
        {ENETDOWN, {"the network is down", "the interface is off", "ip link"}},
        {EADDRNOTAVAIL,
         {"no local address or port is left", "too many connections, or the address is not of this machine", "ss -s"}},
        {EACCES,
         {"this machine does not allow it", "a local firewall rule, or confinement", "nft list ruleset (root)"}},
        {EPERM, {"this machine does not allow it", "a local firewall rule, or confinement", "nft list ruleset (root)"}},
        {ECONNRESET,
         {"the other side broke the connection off",
          "it refuses this client without saying so, it crashed, or a firewall cut it", PROBE_IDENTITY}},
        {ECONNABORTED, {"the connection was broken off", "a firewall cut it", PROBE}},
        {EPIPE, {"the other side has ended already", "it refuses this client without saying so", PROBE_IDENTITY}},
        {ENETRESET, {"the network dropped the connection", "a VPN or a link went down", "try again"}},
    };

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].errnum == errnum) {
            *ret = errors[i].help;
            return true;
        }
    }
    return false;
}

bool explain_help_find(const struct error *err, struct explain_help *ret)
{
    switch (err->category) {
    case ERROR_TOKEN:
    case ERROR_PIN:
        return explain_help_cryptoki(err->text, ret);
    case ERROR_VERIFY:
        /* The code is the alert where the other side refused, else it is about the certificate or libssl's. */
        if (strstr(err->text, "refused with the alert") != NULL)
            return explain_help_alert((int)err->code, ret);
        return explain_help_openssl(err->code, ret);
    case ERROR_PROTOCOL:
        return explain_help_openssl(err->code, ret);
    case ERROR_IO:
        return explain_help_resolver(err->text, ret) || explain_help_socket((int)err->code, ret);
    default:
        return false;
    }
}

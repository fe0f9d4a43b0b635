#include "client/banner.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define STARTTLS "it begins in plain text and may offer STARTTLS, which tokentls does not speak: use its TLS port"

static const struct {
    const char *prefix;
    const char *contains; /* within the bytes; NULL: not asked */
    struct banner_guess guess;
} known[] = {
    {"HTTP/", NULL, {"HTTP without TLS", "this is the plain HTTP port: use the HTTPS port (often 443 or 8443)"}},
    {"<!DOCTYPE", NULL, {"HTTP without TLS", "this is the plain HTTP port: use the HTTPS port (often 443 or 8443)"}},
    {"<html", NULL, {"HTTP without TLS", "this is the plain HTTP port: use the HTTPS port (often 443 or 8443)"}},
    {"SSH-", NULL, {"SSH", "this is an SSH server; TLS is on another port"}},
    {"220", "SMTP", {"SMTP", STARTTLS " (465)"}},
    {"220", "FTP", {"FTP", STARTTLS " (990)"}},
    {"220", NULL, {"SMTP or FTP", STARTTLS " (465 for SMTP, 990 for FTP)"}},
    {"554", NULL, {"SMTP", STARTTLS " (465)"}},
    {"* OK", NULL, {"IMAP", STARTTLS " (993)"}},
    {"* BYE", NULL, {"IMAP", STARTTLS " (993)"}},
    {"+OK", NULL, {"POP3", STARTTLS " (995)"}},
    {"200 ", NULL, {"NNTP", STARTTLS " (563)"}},
    {"\"IMPLEMENTATION\"", NULL, {"ManageSieve", STARTTLS}},
    {"<?xml", NULL, {"XMPP", STARTTLS " (5223)"}},
    {"<stream:", NULL, {"XMPP", STARTTLS " (5223)"}},
    {"RFB ", NULL, {"VNC", "this is a VNC server; TLS is on another port"}},
    {"-ERR", NULL, {"Redis", "this is the plain port: TLS has a port of its own"}},
    {"8=FIX", NULL, {"FIX without TLS", "this is a plain FIX acceptor: use its TLS port"}},
    {"AMQP", NULL, {"AMQP", "this is the plain port: TLS is on another one (5671)"}},
};

static bool contains(const uint8_t *data, size_t length, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= length; i++) {
        if (strncasecmp((const char *)data + i, word, n) == 0)
            return true;
    }
    return false;
}

/* A packet with a 3-byte length and number 0, that begins with protocol version 10 or an error. */
static bool is_mysql(const uint8_t *data, size_t length)
{
    return length > 5 && data[1] == 0 && data[2] == 0 && data[3] == 0 && (data[4] == 10 || data[4] == 0xff);
}

struct banner_guess banner_guess(const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t n = strlen(known[i].prefix);

        if (length >= n && strncasecmp((const char *)data, known[i].prefix, n) == 0 &&
            (known[i].contains == NULL || contains(data, length, known[i].contains)))
            return known[i].guess;
    }
    /* An error message: type, four bytes of length, severity. */
    if (length >= 6 && data[0] == 'E' && data[1] == 0 && data[2] == 0)
        return (struct banner_guess){"PostgreSQL",
                                     "it starts TLS within its own protocol, which tokentls does not speak"};
    if (length > 5 && data[0] == 22 && data[5] == 1)
        return (struct banner_guess){"an echo service", "it sends back what it gets, the ClientHello included"};
    if (is_mysql(data, length))
        return (struct banner_guess){"MySQL", "it starts TLS within its own protocol, which tokentls does not speak"};
    if (length >= 3 && data[0] == 0xff && data[1] >= 0xfb)
        return (struct banner_guess){"Telnet", "there is no TLS on this port"};
    return (struct banner_guess){"an unknown protocol", "there is no TLS on this port, or not from the first byte on"};
}

const char *banner_silence_advice(void)
{
    return "there is no TLS on this port, or the server waits for something else first (STARTTLS, a PROXY header), or "
           "a firewall swallows what is sent";
}

#include "pkcs11/keyholder/purpose_enrol.h"

#include "base/buffer.h"

#include <string.h>

/* Identifier octets (X.690 8.1.2); context classes carry their number in the low five bits. */
enum tag { INTEGER = 0x02, OCTET_STRING = 0x04, SEQUENCE = 0x30, CONTEXT_PRIMITIVE = 0x80, CONTEXT = 0xa0 };
#define CLASS_MASK 0xc0

#define TEMPLATE_PUBLIC_KEY 6 /* of a CertTemplate, RFC 4211 5 */

/* Of a PKIBody, RFC 4210 5.1.2. */
#define BODY_IR 0
#define BODY_P10CR 4
#define BODY_KUR 7
#define BODY_CERT_CONF 24
#define BODY_POLL_REQ 25

#define GENERAL_NAME_LAST 8 /* RFC 5280 4.2.1.6 */

/* The content of the next element if it has this tag and a length in its shortest form; otherwise a failed reader. */
static struct reader take(struct reader *in, unsigned tag)
{
    struct reader content = {.failed = true};
    uint32_t length;

    if (in->failed || reader_u8(in) != tag) {
        in->failed = true;
        return content;
    }
    length = reader_u8(in);
    if (length == 0x81) {
        length = reader_u8(in);
        in->failed = in->failed || length < 0x80;
    } else if (length == 0x82) {
        length = reader_u16(in);
        in->failed = in->failed || length < 0x100;
    } else if (length >= 0x80) {
        in->failed = true;
    }
    if (!in->failed) {
        const uint8_t *at = reader_bytes(in, length);

        if (at != NULL)
            reader_init(&content, at, length);
    }
    return content;
}

static unsigned next_tag(const struct reader *in)
{
    return in->failed || in->left == 0 ? 0 : *in->at;
}

static bool skip(struct reader *in)
{
    return !take(in, next_tag(in)).failed;
}

/* An INTEGER of one byte; -1 for anything else. */
static int small_integer(struct reader *in)
{
    struct reader content = take(in, INTEGER);

    return content.failed || content.left != 1 ? -1 : content.at[0];
}

/* Take exactly the SubjectPublicKeyInfo of the key just made. */
static bool take_spki(struct reader *in, const struct purpose_enrol_request *request)
{
    const uint8_t *at = reader_bytes(in, request->spki_length);

    return at != NULL && memcmp(at, request->spki, request->spki_length) == 0;
}

/* RFC 2986 4.1: version 0, subject, subjectPKInfo, attributes [0]. */
static bool is_request_info(struct reader in, const struct purpose_enrol_request *request)
{
    struct reader info = take(&in, SEQUENCE);

    return reader_done(&in) && small_integer(&info) == 0 && !take(&info, SEQUENCE).failed &&
           take_spki(&info, request) && !take(&info, CONTEXT).failed && reader_done(&info);
}

/* The template asks for this key, once; its other fields are the CA's business. */
static bool template_fits(struct reader fields, const struct purpose_enrol_request *request)
{
    struct reader spki, wanted;
    bool found = false;

    reader_init(&spki, request->spki, request->spki_length);
    wanted = take(&spki, SEQUENCE);
    while (!fields.failed && fields.left > 0) {
        unsigned tag = next_tag(&fields);
        struct reader field = take(&fields, tag);

        if ((tag & CLASS_MASK) != CONTEXT_PRIMITIVE)
            return false;
        if (tag != (CONTEXT | TEMPLATE_PUBLIC_KEY))
            continue;
        if (found || field.failed || field.left != wanted.left || memcmp(field.at, wanted.at, wanted.left) != 0)
            return false;
        found = true;
    }
    return found && reader_done(&fields);
}

/* RFC 4211 5: certReqId, certTemplate, controls OPTIONAL. */
static bool is_cert_request(struct reader *in, const struct purpose_enrol_request *request)
{
    struct reader cert_request = take(in, SEQUENCE);
    struct reader fields;

    if (take(&cert_request, INTEGER).failed)
        return false;
    fields = take(&cert_request, SEQUENCE);
    if (!template_fits(fields, request))
        return false;
    return reader_done(&cert_request) || (!take(&cert_request, SEQUENCE).failed && reader_done(&cert_request));
}

/* CertReqMessages with exactly one CertReqMsg: certReq, and what proves possession and registers. */
static bool is_one_request_message(struct reader messages, const struct purpose_enrol_request *request)
{
    struct reader message = take(&messages, SEQUENCE);

    if (!reader_done(&messages) || !is_cert_request(&message, request))
        return false;
    while (!message.failed && message.left > 0) {
        if (!skip(&message))
            return false;
    }
    return reader_done(&message);
}

/* A CertificationRequest: the info, its signature's algorithm and value. */
static bool is_pkcs10(struct reader content, const struct purpose_enrol_request *request)
{
    struct reader info = content;

    if (!skip(&content))
        return false;
    info.left -= content.left;
    return is_request_info(info, request) && skip(&content) && skip(&content) && reader_done(&content);
}

/* RFC 4210 5.3.18, 5.3.22: at most one entry, a SEQUENCE that begins with a hash or a certReqId. */
static bool is_confirmation(struct reader content, unsigned first)
{
    struct reader entry;

    if (reader_done(&content))
        return true;
    entry = take(&content, SEQUENCE);
    return reader_done(&content) && !take(&entry, first).failed;
}

static bool body_fits(struct reader body, unsigned kind, const struct purpose_enrol_request *request)
{
    struct reader content = take(&body, SEQUENCE);

    if (!reader_done(&body))
        return false;
    switch (kind) {
    case BODY_IR:
    case BODY_KUR:
        return is_one_request_message(content, request);
    case BODY_P10CR:
        return is_pkcs10(content, request);
    case BODY_CERT_CONF:
        return is_confirmation(content, OCTET_STRING);
    case BODY_POLL_REQ:
        return is_confirmation(content, INTEGER);
    default:
        return false;
    }
}

static bool take_general_name(struct reader *in)
{
    unsigned tag = next_tag(in);

    return (tag & CLASS_MASK) == CONTEXT_PRIMITIVE && (tag & 0x1f) <= GENERAL_NAME_LAST && skip(in);
}

/* RFC 4210 5.1.1: pvno, sender, recipient, and what is optional. */
static bool header_fits(struct reader header)
{
    int version = small_integer(&header);

    if ((version != 2 && version != 3) || !take_general_name(&header) || !take_general_name(&header))
        return false;
    while (!header.failed && header.left > 0) {
        if ((next_tag(&header) & CLASS_MASK) != CONTEXT_PRIMITIVE || !skip(&header))
            return false;
    }
    return reader_done(&header);
}

static bool is_protected_part(struct reader in, const struct purpose_enrol_request *request)
{
    struct reader part = take(&in, SEQUENCE);
    struct reader header = take(&part, SEQUENCE);
    unsigned tag = next_tag(&part);
    struct reader body = take(&part, tag);

    return reader_done(&in) && header_fits(header) && (tag & ~0x1fU) == CONTEXT && reader_done(&part) &&
           body_fits(body, tag & 0x1f, request);
}

result purpose_enrol_check(const struct purpose_enrol_request *request, struct error *err)
{
    struct reader message, again;

    reader_init(&message, request->message, request->length);
    again = message;
    if (request->spki_length == 0)
        return error_set(err, ERROR_VERIFY, "refused to sign: no key has been made yet");
    if (!request->made && is_protected_part(message, request))
        return ERROR_NONE;
    if (request->made && is_request_info(message, request))
        return ERROR_NONE;
    if (request->made && is_cert_request(&again, request) && reader_done(&again))
        return ERROR_NONE;
    return error_set(err, ERROR_VERIFY,
                     request->made ? "refused to sign: not a certificate request (PKCS#10, CRMF) for the new key"
                                   : "refused to sign: not a CMP message that asks for a certificate of the new key");
}

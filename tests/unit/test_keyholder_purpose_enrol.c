/* While a key is enrolled, nothing is signed but requests for a certificate of it. */
#include "pkcs11/keyholder/purpose_enrol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES_MAX 1024

/* DER that is put together from its parts. */
struct der {
    uint8_t bytes[BYTES_MAX];
    size_t length;
};

/* Put these parts (NULL ends them) into an element of this tag. */
static struct der wrap(uint8_t tag, const struct der *const *parts)
{
    struct der out = {.bytes = {tag}, .length = 1};
    size_t content = 0;

    for (size_t i = 0; parts[i] != NULL; i++)
        content += parts[i]->length;
    if (content >= 0x100) {
        out.bytes[out.length++] = 0x82;
        out.bytes[out.length++] = (uint8_t)(content >> 8);
    } else if (content >= 0x80) {
        out.bytes[out.length++] = 0x81;
    }
    out.bytes[out.length++] = (uint8_t)content;
    for (size_t i = 0; parts[i] != NULL; i++) {
        assert_true(out.length + parts[i]->length <= BYTES_MAX);
        memcpy(out.bytes + out.length, parts[i]->bytes, parts[i]->length);
        out.length += parts[i]->length;
    }
    return out;
}

#define WRAP(tag, ...) wrap(tag, (const struct der *const[]){__VA_ARGS__, NULL})

static struct der raw(size_t length, const char *bytes)
{
    struct der out = {.length = length};

    memcpy(out.bytes, bytes, length);
    return out;
}

#define RAW(literal) raw(sizeof(literal) - 1, literal)

/* An algorithm identifier and 150 bytes of key, all of one value. */
static struct der key_content(uint8_t value)
{
    struct der algorithm = RAW("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"), bits = {.length = 150}, string;

    memset(bits.bytes, value, bits.length);
    string = WRAP(0x03, &bits);
    memcpy(algorithm.bytes + algorithm.length, string.bytes, string.length);
    algorithm.length += string.length;
    return algorithm;
}

static struct der spki_of(uint8_t value)
{
    struct der content = key_content(value);

    return WRAP(0x30, &content);
}

static struct der request_info(uint8_t value)
{
    struct der version = RAW("\x02\x01\x00"), subject = RAW("\x30\x02\x31\x00"), spki = spki_of(value),
               attributes = RAW("\xa0\x00");

    return WRAP(0x30, &version, &subject, &spki, &attributes);
}

static struct der template_of(uint8_t value)
{
    struct der subject = RAW("\xa5\x02\x30\x00"), content = key_content(value), key = WRAP(0xa6, &content);

    return WRAP(0x30, &subject, &key);
}

static struct der cert_request(uint8_t value)
{
    struct der id = RAW("\x02\x01\x00"), template = template_of(value);

    return WRAP(0x30, &id, &template);
}

static struct der header(void)
{
    struct der version = RAW("\x02\x01\x02"), sender = RAW("\xa4\x02\x30\x00"), recipient = RAW("\xa4\x02\x30\x00"),
               rest = RAW("\xa1\x03\x04\x01\x55");

    return WRAP(0x30, &version, &sender, &recipient, &rest);
}

static struct der part(uint8_t body_tag, const struct der *body_content)
{
    struct der head = header(), body = wrap(body_tag, (const struct der *const[]){body_content, NULL});

    return WRAP(0x30, &head, &body);
}

/* ir (0xa0) and kur (0xa7). */
static struct der request_part(uint8_t body_tag, uint8_t value)
{
    struct der request = cert_request(value), possession = RAW("\xa1\x02\x30\x00"),
               message = WRAP(0x30, &request, &possession), messages = WRAP(0x30, &message);

    return part(body_tag, &messages);
}

static struct der pkcs10_part(uint8_t value)
{
    struct der info = request_info(value), algorithm = RAW("\x30\x02\x06\x00"), signature = RAW("\x03\x02\x00\x55"),
               request = WRAP(0x30, &info, &algorithm, &signature);

    return part(0xa4, &request);
}

static result check(const struct der *message, bool made, struct error *err)
{
    struct der spki = spki_of('k');
    uint8_t *exact = malloc(message->length == 0 ? 1 : message->length);
    struct purpose_enrol_request request = {
        .made = made, .spki = spki.bytes, .spki_length = spki.length, .message = exact, .length = message->length};
    result r;

    /* memory of exactly this size, so that a sanitizer sees a read past the end */
    assert_non_null(exact);
    memcpy(exact, message->bytes, message->length);
    r = purpose_enrol_check(&request, err);
    free(exact);
    return r;
}

/* It passes for one of the two keys only, and neither cut short nor with something behind it. */
static void accepts(struct der message, bool made)
{
    struct error err = ERROR_INIT;
    size_t whole = message.length;

    if (check(&message, made, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(check(&message, !made, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "refused to sign"));
    for (message.length = 0; message.length < whole; message.length++)
        assert_int_equal(check(&message, made, NULL), ERROR_VERIFY);
    message.length = whole + 1;
    assert_int_equal(check(&message, made, NULL), ERROR_VERIFY);
}

static void refuses(struct der message)
{
    struct error err = ERROR_INIT;

    assert_int_equal(check(&message, true, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "not a certificate request"));
    assert_int_equal(check(&message, false, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "not a CMP message"));
}

static void test_new_key_signs_requests_for_itself(void **state)
{
    (void)state;
    accepts(request_info('k'), true);
    accepts(cert_request('k'), true);
    refuses(request_info('x'));
    refuses(cert_request('x'));
}

static void test_old_key_signs_cmp_messages_for_the_new_one(void **state)
{
    struct der status = RAW("\x30\x06\x04\x01\x55\x02\x01\x00"), confirmation = WRAP(0x30, &status), id, poll;

    (void)state;
    accepts(request_part(0xa0, 'k'), false);
    accepts(request_part(0xa7, 'k'), false);
    accepts(pkcs10_part('k'), false);
    accepts(part(0xb8, &confirmation), false);
    id = RAW("\x30\x03\x02\x01\x00");
    poll = WRAP(0x30, &id);
    accepts(part(0xb9, &poll), false);
    refuses(request_part(0xa0, 'x'));
    refuses(request_part(0xa7, 'x'));
    refuses(pkcs10_part('x'));
    refuses(part(0xb8, &poll));         /* no hash */
    refuses(part(0xb9, &confirmation)); /* no id */
}

/* cr, rr, ccr, genm, nested ... */
static void test_other_bodies(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 31; kind++)
        if (kind != 0 && kind != 7)
            refuses(request_part((uint8_t)(0xa0 | kind), 'k'));
    refuses(request_part(0x80, 'k'));
    refuses(request_part(0x30, 'k'));
}

static void test_more_than_one(void **state)
{
    struct der request = cert_request('k'), other = cert_request('x'), message = WRAP(0x30, &request),
               second = WRAP(0x30, &other), messages = WRAP(0x30, &message, &second);
    struct der id = RAW("\x02\x01\x00"), content = key_content('k'), strange = key_content('x'),
               key = WRAP(0xa6, &content), key2 = WRAP(0xa6, &strange), fields = WRAP(0x30, &key, &key2),
               two_keys = WRAP(0x30, &id, &fields), none = RAW("\x30\x00"), no_key = WRAP(0x30, &id, &none);

    (void)state;
    refuses(part(0xa0, &messages));
    refuses(two_keys);
    refuses(no_key);
}

static void test_form(void **state)
{
    struct der info = request_info('k'), longer, request = request_part(0xa7, 'k'), text;

    (void)state;
    /* version 1, as a certificate has it */
    info.bytes[5] = 1;
    refuses(info);
    /* the header's version */
    assert_int_equal(request.bytes[7], 2);
    request.bytes[7] = 7;
    refuses(request);
    /* a length that is not in its shortest form */
    info = request_info('k');
    assert_int_equal(info.bytes[1], 0x81);
    longer = RAW("\x30\x82\x00");
    memcpy(longer.bytes + 3, info.bytes + 2, info.length - 2);
    longer.length += info.length - 2;
    refuses(longer);
    /* indefinite length */
    info.bytes[1] = 0x80;
    refuses(info);
    text = RAW("                                                                TLS 1.3, client CertificateVerify");
    refuses(text);
    text.length = 0;
    refuses(text);
}

static void test_nothing_before_there_is_a_key(void **state)
{
    struct der message = request_info('k');
    struct purpose_enrol_request request = {.made = true, .message = message.bytes, .length = message.length};
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(purpose_enrol_check(&request, &err), ERROR_VERIFY);
    assert_non_null(strstr(err.text, "no key has been made"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_key_signs_requests_for_itself),
        cmocka_unit_test(test_old_key_signs_cmp_messages_for_the_new_one),
        cmocka_unit_test(test_other_bodies),
        cmocka_unit_test(test_more_than_one),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_nothing_before_there_is_a_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

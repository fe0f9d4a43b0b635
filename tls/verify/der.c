#include "tls/verify/der.h"

const char *der_next(struct der *in, struct der_element *ret)
{
    const uint8_t *at = in->at;
    size_t left = der_length(in), length;

    if (left < 2)
        return left == 0 ? "something is missing" : "it is cut off";
    if ((at[0] & 0x1f) == 0x1f)
        return "a tag of several bytes";
    length = at[1];
    at += 2;
    left -= 2;
    if (length >= 0x80) {
        size_t n = length & 0x7f;

        if (n == 0)
            return "an indefinite length";
        if (n > 4)
            return "a length of more than 4 bytes";
        if (n > left)
            return "it is cut off";
        length = 0;
        for (size_t i = 0; i < n; i++)
            length = length << 8 | at[i];
        if (length < 0x80 || at[0] == 0)
            return "a length in more bytes than it needs";
        at += n;
        left -= n;
    }
    if (length > left)
        return "it is longer than what surrounds it";
    *ret = (struct der_element){.start = in->at, .content = {.at = at, .end = at + length}, .tag = in->at[0]};
    in->at = at + length;
    return NULL;
}

const char *der_expect(struct der *in, uint8_t tag, const char *problem, struct der_element *ret)
{
    struct der rest = *in;
    struct der_element element;
    const char *wrong = der_next(&rest, &element);

    if (wrong != NULL)
        return wrong;
    if (element.tag != tag)
        return problem;
    *in = rest;
    *ret = element;
    return NULL;
}

bool der_follows(const struct der *in, uint8_t tag)
{
    return in->at < in->end && in->at[0] == tag;
}

#include "pkcs11/padding.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

/* DigestInfo up to the hash itself: SEQUENCE, AlgorithmIdentifier with NULL, OCTET STRING (RFC 8017 9.2 note 1). */
#define PREFIX_LENGTH 19
#define PREFIX_SHA2(total, arc, hash)                                                                                  \
    {                                                                                                                  \
        0x30, total, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc, 0x05, 0x00, 0x04,    \
            hash                                                                                                       \
    }

static const uint8_t prefixes[][PREFIX_LENGTH] = {
    PREFIX_SHA2(0x31, 0x01, 0x20),
    PREFIX_SHA2(0x41, 0x02, 0x30),
    PREFIX_SHA2(0x51, 0x03, 0x40),
};

result padding_hash(const EVP_MD *md, const uint8_t *message, size_t length, struct padding_digest *ret,
                    struct error *err)
{
    unsigned written = 0;

    if (EVP_MD_get_size(md) > (int)sizeof(ret->bytes) ||
        EVP_Digest(message, length, ret->bytes, &written, md, NULL) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "cannot hash the message");
    ret->md = md;
    ret->length = written;
    return ERROR_NONE;
}

result padding_digest_info(const struct padding_digest *digest, uint8_t *out, size_t size, size_t *ret_length,
                           struct error *err)
{
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (prefixes[i][PREFIX_LENGTH - 1] != digest->length || PREFIX_LENGTH + digest->length > size)
            continue;
        memcpy(out, prefixes[i], PREFIX_LENGTH);
        memcpy(out + PREFIX_LENGTH, digest->bytes, digest->length);
        *ret_length = PREFIX_LENGTH + digest->length;
        return ERROR_NONE;
    }
    return error_set(err, ERROR_INTERNAL, "no DigestInfo for a digest of %zu bytes", digest->length);
}

result padding_pkcs1(const struct padding_digest *digest, uint8_t *out, size_t size, struct error *err)
{
    uint8_t info[PREFIX_LENGTH + sizeof(digest->bytes)];
    size_t length = 0;
    result r = padding_digest_info(digest, info, sizeof(info), &length, err);

    if (r != ERROR_NONE)
        return r;
    if (size < length + 11)
        return error_set(err, ERROR_INTERNAL, "a modulus of %zu bytes is too short for the padding", size);
    out[0] = 0x00;
    out[1] = 0x01;
    memset(out + 2, 0xff, size - length - 3);
    out[size - length - 1] = 0x00;
    memcpy(out + size - length, info, length);
    return ERROR_NONE;
}

/* XOR MGF1(seed) over mask[length] (RFC 8017 B.2.1). */
static result mgf1_xor(const struct padding_digest *seed, uint8_t *mask, size_t length, struct error *err)
{
    uint8_t input[sizeof(seed->bytes) + 4];
    struct padding_digest block;
    uint32_t counter = 0;

    memcpy(input, seed->bytes, seed->length);
    for (size_t at = 0; at < length; at += block.length, counter++) {
        result r;

        for (unsigned i = 0; i < 4; i++)
            input[seed->length + i] = (uint8_t)(counter >> (24 - 8 * i));
        r = padding_hash(seed->md, input, seed->length + 4, &block, err);
        if (r != ERROR_NONE)
            return r;
        for (size_t i = 0; i < block.length && at + i < length; i++)
            mask[at + i] ^= block.bytes[i];
    }
    return ERROR_NONE;
}

result padding_pss(const struct padding_digest *digest, unsigned bits, uint8_t *out, struct error *err)
{
    size_t size = (bits + 7) / 8, em_bits = bits - 1, em_length = (em_bits + 7) / 8;
    size_t hash = digest->length, db_length;
    uint8_t *em = out + (size - em_length), salt[sizeof(digest->bytes)];
    uint8_t m[8 + 2 * sizeof(digest->bytes)] = {0};
    struct padding_digest h = {.length = 0};
    result r;

    if (em_length < 2 * hash + 2)
        return error_set(err, ERROR_INTERNAL, "a modulus of %u bits is too short for PSS", bits);
    if (RAND_bytes(salt, (int)hash) != 1)
        return error_set_openssl(err, ERROR_INTERNAL, "no randomness for a PSS salt");
    memcpy(m + 8, digest->bytes, hash);
    memcpy(m + 8 + hash, salt, hash);
    r = padding_hash(digest->md, m, 8 + 2 * hash, &h, err);
    if (r != ERROR_NONE)
        return r;
    /* One octet more than emLen when the modulus has 8k + 1 bits: the leading zero of I2OSP. */
    out[0] = 0;
    db_length = em_length - hash - 1;
    memset(em, 0, db_length - hash - 1);
    em[db_length - hash - 1] = 0x01;
    memcpy(em + db_length - hash, salt, hash);
    r = mgf1_xor(&h, em, db_length, err);
    if (r != ERROR_NONE)
        return r;
    em[0] &= (uint8_t)(0xff >> (8 * em_length - em_bits));
    memcpy(em + db_length, h.bytes, hash);
    em[em_length - 1] = 0xbc;
    return ERROR_NONE;
}

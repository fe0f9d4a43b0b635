#include "pkcs11/keyholder/protocol.h"

static void start(struct buffer *out, enum protocol_type type)
{
    buffer_reset(out);
    buffer_put_u8(out, PROTOCOL_VERSION);
    buffer_put_u8(out, (uint8_t)type);
}

void protocol_encode_hello(struct buffer *out, uint32_t identities)
{
    start(out, PROTOCOL_HELLO);
    buffer_put_u32(out, identities);
}

void protocol_encode_identity(struct buffer *out, const struct keyholder_identity *identity)
{
    start(out, PROTOCOL_IDENTITY);
    buffer_put_text(out, identity->name);
    buffer_put_u32(out, identity->key);
    buffer_put_u8(out, (uint8_t)identity->state);
    buffer_put_u8(out, (uint8_t)identity->category);
    buffer_put_text(out, identity->reason);
    buffer_put_text(out, identity->uri);
    buffer_put_u8(out, (uint8_t)identity->n_schemes);
    for (size_t i = 0; i < identity->n_schemes; i++)
        buffer_put_u16(out, identity->schemes[i]);
    buffer_put_u8(out, (uint8_t)identity->n_chain);
    for (size_t i = 0; i < identity->n_chain; i++)
        buffer_put_block(out, identity->chain[i], identity->chain_length[i]);
}

void protocol_encode_credit(struct buffer *out, uint32_t credit)
{
    start(out, PROTOCOL_CREDIT);
    buffer_put_u32(out, credit);
}

void protocol_encode_sign(struct buffer *out, const struct protocol_sign *sign)
{
    start(out, PROTOCOL_SIGN);
    buffer_put_u64(out, sign->id);
    buffer_put_u32(out, sign->key);
    buffer_put_u16(out, sign->scheme);
    buffer_put_u32(out, sign->tunnel);
    buffer_put_u64(out, sign->deadline);
    buffer_put_block(out, sign->message, sign->length);
}

void protocol_encode_cancel(struct buffer *out, uint64_t id)
{
    start(out, PROTOCOL_CANCEL);
    buffer_put_u64(out, id);
}

void protocol_encode_started(struct buffer *out, uint64_t id)
{
    start(out, PROTOCOL_STARTED);
    buffer_put_u64(out, id);
}

void protocol_encode_look(struct buffer *out)
{
    start(out, PROTOCOL_LOOK);
}

void protocol_encode_result(struct buffer *out, const struct protocol_result *sign_result)
{
    start(out, PROTOCOL_RESULT);
    buffer_put_u64(out, sign_result->id);
    buffer_put_u8(out, sign_result->ok ? 1 : 0);
    if (sign_result->ok) {
        buffer_put_block(out, sign_result->signature, sign_result->signature_length);
        buffer_put_text(out, sign_result->mechanism);
        buffer_put_u32(out, sign_result->sign_ms);
    } else {
        buffer_put_u8(out, (uint8_t)sign_result->category);
        buffer_put_text(out, sign_result->reason);
    }
}

static bool is_failure(unsigned category)
{
    return category > ERROR_NONE && category <= ERROR_USAGE;
}

static bool decode_chain(struct reader *reader, struct keyholder_identity *identity)
{
    identity->n_chain = reader_u8(reader);
    if (identity->n_chain > TOKEN_CHAIN_MAX)
        return false;
    for (size_t i = 0; i < identity->n_chain; i++) {
        identity->chain_length[i] = 0;
        identity->chain[i] = reader_block(reader, TOKEN_CERTIFICATE_MAX, &identity->chain_length[i]);
        if (!reader_ok(reader) || identity->chain_length[i] == 0)
            return false;
    }
    return true;
}

static bool decode_identity(struct reader *reader, struct keyholder_identity *identity)
{
    unsigned state, category;
    bool usable;

    reader_text(reader, identity->name, sizeof(identity->name));
    identity->key = reader_u32(reader);
    state = reader_u8(reader);
    category = reader_u8(reader);
    reader_text(reader, identity->reason, sizeof(identity->reason));
    reader_text(reader, identity->uri, sizeof(identity->uri));
    identity->n_schemes = reader_u8(reader);
    if (!reader_ok(reader) || identity->name[0] == '\0' || identity->key >= PROTOCOL_IDENTITIES_MAX ||
        state > TOKEN_FAILED || category > ERROR_USAGE || identity->n_schemes > MECHANISM_SCHEMES)
        return false;
    identity->state = (enum token_state)state;
    identity->category = (enum error_category)category;
    usable = identity->state == TOKEN_READY || identity->state == TOKEN_PRESENT;
    if (!usable && identity->category == ERROR_NONE)
        return false; /* whoever asks for a signature would be refused without a reason */
    if (identity->state == TOKEN_READY && identity->category != ERROR_NONE)
        return false;
    for (size_t i = 0; i < identity->n_schemes; i++)
        identity->schemes[i] = reader_u16(reader);
    if (!decode_chain(reader, identity))
        return false;
    return !usable || (identity->n_chain > 0 && identity->n_schemes > 0);
}

static bool decode_sign(struct reader *reader, struct protocol_sign *sign)
{
    sign->id = reader_u64(reader);
    sign->key = reader_u32(reader);
    sign->scheme = reader_u16(reader);
    sign->tunnel = reader_u32(reader);
    sign->deadline = reader_u64(reader);
    sign->length = 0;
    sign->message = reader_block(reader, KEYHOLDER_SIGN_MAX, &sign->length);
    return reader_ok(reader) && sign->length > 0;
}

static bool decode_result(struct reader *reader, struct protocol_result *sign_result)
{
    unsigned ok, category;

    sign_result->id = reader_u64(reader);
    ok = reader_u8(reader);
    sign_result->ok = ok == 1;
    sign_result->category = ERROR_NONE;
    sign_result->reason[0] = '\0';
    sign_result->mechanism[0] = '\0';
    sign_result->signature = NULL;
    sign_result->signature_length = 0;
    sign_result->sign_ms = 0;
    if (ok == 1) {
        sign_result->signature = reader_block(reader, SIGNATURE_MAX, &sign_result->signature_length);
        reader_text(reader, sign_result->mechanism, sizeof(sign_result->mechanism));
        sign_result->sign_ms = reader_u32(reader);
        return reader_ok(reader) && sign_result->signature_length > 0;
    }
    category = reader_u8(reader);
    reader_text(reader, sign_result->reason, sizeof(sign_result->reason));
    sign_result->category = (enum error_category)category;
    return reader_ok(reader) && ok == 0 && is_failure(category);
}

static bool decode_count(struct reader *reader, uint32_t max, uint32_t *ret)
{
    *ret = reader_u32(reader);
    return reader_ok(reader) && *ret >= 1 && *ret <= max;
}

static bool decode_id(struct reader *reader, uint64_t *ret)
{
    *ret = reader_u64(reader);
    return reader_ok(reader);
}

result protocol_decode(const void *data, size_t length, struct protocol_message *ret, struct error *err)
{
    struct reader reader;
    unsigned version, type;
    bool ok = false;

    reader_init(&reader, data, length);
    version = reader_u8(&reader);
    type = reader_u8(&reader);
    if (!reader_ok(&reader))
        return error_set(err, ERROR_PROTOCOL, "a message of %zu bytes is no message", length);
    if (version != PROTOCOL_VERSION)
        return error_set(err, ERROR_PROTOCOL, "protocol version %u, version %d is expected", version, PROTOCOL_VERSION);
    switch (type) {
    case PROTOCOL_HELLO:
        ok = decode_count(&reader, PROTOCOL_IDENTITIES_MAX, &ret->identities);
        break;
    case PROTOCOL_IDENTITY:
        ok = decode_identity(&reader, &ret->identity);
        break;
    case PROTOCOL_CREDIT:
        ok = decode_count(&reader, PROTOCOL_CREDIT_MAX, &ret->credit);
        break;
    case PROTOCOL_SIGN:
        ok = decode_sign(&reader, &ret->sign);
        break;
    case PROTOCOL_CANCEL:
    case PROTOCOL_STARTED:
        ok = decode_id(&reader, &ret->id);
        break;
    case PROTOCOL_LOOK:
        ok = true;
        break;
    case PROTOCOL_RESULT:
        ok = decode_result(&reader, &ret->result);
        break;
    default:
        return error_set(err, ERROR_PROTOCOL, "message of unknown type %u", type);
    }
    if (!ok || !reader_done(&reader))
        return error_set(err, ERROR_PROTOCOL, "malformed message of type %u and %zu bytes", type, length);
    ret->type = (enum protocol_type)type;
    return ERROR_NONE;
}

/* Whatever a worker or a keyholder may send: decoding stays in bounds, and what was decoded encodes to the same. */
#include "pkcs11/keyholder/protocol.h"

#include <stdlib.h>
#include <string.h>

static void encode(const struct protocol_message *message, struct buffer *out)
{
    switch (message->type) {
    case PROTOCOL_HELLO:
        protocol_encode_hello(out, message->identities);
        break;
    case PROTOCOL_IDENTITY:
        protocol_encode_identity(out, &message->identity);
        break;
    case PROTOCOL_CREDIT:
        protocol_encode_credit(out, message->credit);
        break;
    case PROTOCOL_SIGN:
        protocol_encode_sign(out, &message->sign);
        break;
    case PROTOCOL_CANCEL:
        protocol_encode_cancel(out, message->id);
        break;
    case PROTOCOL_STARTED:
        protocol_encode_started(out, message->id);
        break;
    case PROTOCOL_RESULT:
        protocol_encode_result(out, &message->result);
        break;
    case PROTOCOL_LOOK:
        protocol_encode_look(out);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct protocol_message message;
    struct buffer out;

    if (size == 0 || protocol_decode(data, size, &message, NULL) != ERROR_NONE)
        return 0;
    buffer_init(&out, KEYHOLDER_MESSAGE_MAX);
    encode(&message, &out);
    if (buffer_ok(&out) && (out.length != size || memcmp(out.data, data, size) != 0))
        abort();
    buffer_free(&out);
    return 0;
}

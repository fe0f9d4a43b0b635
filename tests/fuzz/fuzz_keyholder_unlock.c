/* What comes in on a keyholder's own socket, and what the command line is told there. */
#include "pkcs11/keyholder/unlock_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unlock_message_hello hello;
    char name[KEYHOLDER_NAME_MAX];
    uint8_t head[UNLOCK_MESSAGE_HEAD];
    struct error outcome;

    if (size >= sizeof(head)) {
        memcpy(head, data, sizeof(head));
        if (unlock_message_decode(head, name, NULL) == ERROR_NONE) {
            unlock_message_encode(head, name);
            if (memcmp(head, data, sizeof(head)) != 0)
                abort(); /* there is one form of each message */
        }
    }
    if (unlock_message_decode_hello(data, size, &hello, NULL) == ERROR_NONE) {
        free(unlock_message_encode_hello(&hello));
        unlock_message_free_hello(&hello);
    }
    (void)(unlock_message_decode_answer(data, size, &outcome, NULL) == ERROR_NONE);
    return 0;
}

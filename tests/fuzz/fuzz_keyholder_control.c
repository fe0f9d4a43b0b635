/* Control messages in both directions. */
#include "pkcs11/keyholder/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_config config;
    struct keyholder_event event;
    enum control_request request = CONTROL_LINK;

    if (control_decode_request(data, size, &request, &config, NULL) == ERROR_NONE && request == CONTROL_CONFIG)
        control_config_free(&config);
    (void)(control_decode_event(data, size, &event, NULL) == ERROR_NONE);
    return 0;
}

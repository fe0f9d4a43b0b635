/* Requests on the control socket: what is accepted is written and accepted again, and means the same. */
#include "daemon/control_order.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_order order, again;
    char *text;

    if (control_order_parse(data, size, &order, NULL) != ERROR_NONE)
        return 0;
    text = control_order_text(&order);
    if (text == NULL)
        return 0;
    if (control_order_parse(text, strlen(text), &again, NULL) != ERROR_NONE || order.kind != again.kind ||
        order.all != again.all || strcmp(order.identity, again.identity) != 0)
        abort();
    free(text);
    return 0;
}

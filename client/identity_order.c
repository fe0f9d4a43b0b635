#include "client/identity_order.h"

#include "client/control_client.h"
#include "client/control_text.h"

result identity_order_carry(const char *path, enum control_order_kind kind, const char *name, bool json,
                            struct error *err)
{
    struct control_order order;
    cJSON *answer = NULL;
    result r = control_client_order(kind, name, &order, err);

    if (r == ERROR_NONE)
        r = control_client_ask(path, &order, &answer, err);
    if (r == ERROR_NONE && json)
        r = control_text_json(answer, stdout, err);
    else if (r == ERROR_NONE)
        control_text_identities(answer, stdout);
    if (r == ERROR_NONE)
        r = control_client_judge_identities(answer, kind == CONTROL_ORDER_LOCK, err);
    cJSON_Delete(answer);
    return r;
}

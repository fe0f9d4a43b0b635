#include "daemon/control_order.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"status", "reload", "unlock", "lock"};

static bool takes_identity(enum control_order_kind kind)
{
    return kind == CONTROL_ORDER_UNLOCK || kind == CONTROL_ORDER_LOCK;
}

static bool take_kind(const cJSON *item, struct control_order *order)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, names[i]) == 0) {
            order->kind = (enum control_order_kind)i;
            return true;
        }
    }
    return false;
}

static bool take_identity(const cJSON *item, struct control_order *order)
{
    size_t length;

    if (!cJSON_IsString(item))
        return false;
    length = strlen(item->valuestring);
    if (length == 0 || length >= sizeof(order->identity))
        return false;
    for (const char *at = item->valuestring; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at == 0x7f)
            return false;
    }
    memcpy(order->identity, item->valuestring, length + 1);
    return true;
}

/* Every member is known and there once. */
static bool take_members(const cJSON *tree, struct control_order *order)
{
    const cJSON *item;
    bool has_order = false, has_identity = false;

    if (!cJSON_IsObject(tree))
        return false;
    cJSON_ArrayForEach(item, tree)
    {
        bool good = false;

        if (strcmp(item->string, "order") == 0 && !has_order)
            good = has_order = take_kind(item, order);
        else if (strcmp(item->string, "identity") == 0 && !has_identity && !order->all)
            good = has_identity = take_identity(item, order);
        else if (strcmp(item->string, "all") == 0 && !has_identity && !order->all)
            good = order->all = cJSON_IsTrue(item);
        if (!good)
            return false;
    }
    return has_order && takes_identity(order->kind) == (has_identity || order->all);
}

result control_order_parse(const void *data, size_t length, struct control_order *ret, struct error *err)
{
    struct control_order order = {.kind = CONTROL_ORDER_STATUS};
    const char *text = data;
    char line[CONTROL_ORDER_MAX + 1];
    const char *end = NULL;
    cJSON *tree;
    bool good;

    if (length > 0 && text[length - 1] == '\n')
        length--;
    if (length > CONTROL_ORDER_MAX || memchr(text, '\0', length) != NULL)
        return error_set(err, ERROR_PROTOCOL, "a request that is too long or has a NUL byte");
    memcpy(line, text, length);
    line[length] = '\0';
    tree = cJSON_ParseWithOpts(line, &end, 1);
    good = take_members(tree, &order);
    cJSON_Delete(tree);
    if (!good)
        return error_set(err, ERROR_PROTOCOL,
                         "not a request: expected {\"order\":\"status\"}, reload, or unlock or lock with \"identity\" "
                         "or \"all\"");
    *ret = order;
    return ERROR_NONE;
}

char *control_order_text(const struct control_order *order)
{
    cJSON *tree = cJSON_CreateObject();
    char *json = NULL, *line = NULL;
    bool complete = cJSON_AddStringToObject(tree, "order", names[order->kind]) != NULL;

    if (complete && takes_identity(order->kind))
        complete = order->all ? cJSON_AddTrueToObject(tree, "all") != NULL
                              : cJSON_AddStringToObject(tree, "identity", order->identity) != NULL;
    if (complete)
        json = cJSON_PrintUnformatted(tree);
    if (json != NULL)
        line = text_format("%s\n", json);
    cJSON_free(json);
    cJSON_Delete(tree);
    return line;
}

#include "pkcs11/keyholder/unlock_message.h"

#include "base/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1
#define TYPE_UNLOCK 1
#define SOURCE_MAX 4352

static const char *const pins[] = {"wanted", "taken", "refused"};

void unlock_message_encode(uint8_t head[UNLOCK_MESSAGE_HEAD], const char *name)
{
    memset(head, 0, UNLOCK_MESSAGE_HEAD);
    head[0] = VERSION;
    head[1] = TYPE_UNLOCK;
    memcpy(head + 2, name, strnlen(name, KEYHOLDER_NAME_MAX - 1));
}

static bool is_name(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    }
    return length > 0 && length < KEYHOLDER_NAME_MAX;
}

result unlock_message_decode(const uint8_t head[UNLOCK_MESSAGE_HEAD], char name[KEYHOLDER_NAME_MAX], struct error *err)
{
    size_t length;

    memcpy(name, head + 2, KEYHOLDER_NAME_MAX);
    name[KEYHOLDER_NAME_MAX - 1] = '\0';
    length = strlen(name);
    for (size_t i = length; i < KEYHOLDER_NAME_MAX; i++) {
        if (head[2 + i] != 0)
            return error_set(err, ERROR_PROTOCOL, "UNLOCK with a broken name");
    }
    if (head[0] != VERSION || head[1] != TYPE_UNLOCK)
        return error_set(err, ERROR_PROTOCOL, "message of version %u and type %u is not UNLOCK", head[0], head[1]);
    return is_name(name) ? ERROR_NONE : error_set(err, ERROR_PROTOCOL, "UNLOCK with a broken name");
}

static char *print_and_delete(cJSON *object, bool complete)
{
    char *text = complete ? cJSON_PrintUnformatted(object) : NULL;

    cJSON_Delete(object);
    return text;
}

char *unlock_message_encode_hello(const struct unlock_message_hello *hello)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(object, "identities");
    bool complete = list != NULL && cJSON_AddStringToObject(object, "type", "hello") != NULL &&
                    cJSON_AddNumberToObject(object, "version", VERSION) != NULL &&
                    cJSON_AddStringToObject(object, "pin", pins[hello->pin]) != NULL &&
                    cJSON_AddStringToObject(object, "source", hello->source) != NULL;

    for (size_t i = 0; i < hello->n_names && complete; i++)
        complete = cJSON_AddItemToArray(list, cJSON_CreateString(hello->names[i]));
    return print_and_delete(object, complete);
}

static bool take_pin(const char *word, enum unlock_message_pin *ret)
{
    for (int i = 0; word != NULL && i <= UNLOCK_MESSAGE_REFUSED; i++) {
        if (strcmp(word, pins[i]) == 0) {
            *ret = (enum unlock_message_pin)i;
            return true;
        }
    }
    return false;
}

static bool take_hello(const cJSON *tree, struct unlock_message_hello *hello)
{
    const char *type = json_text(tree, "type");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(tree, "version"), *item;

    hello->source = json_text(tree, "source");
    if (type == NULL || strcmp(type, "hello") != 0 || !cJSON_IsNumber(version) || version->valueint != VERSION ||
        !take_pin(json_text(tree, "pin"), &hello->pin) || hello->source == NULL || strlen(hello->source) > SOURCE_MAX)
        return false;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(tree, "identities"))
    {
        const char *name = cJSON_GetStringValue(item);

        if (name == NULL || !is_name(name) || hello->n_names == PROTOCOL_IDENTITIES_MAX)
            return false;
        hello->names[hello->n_names++] = name;
    }
    return hello->n_names > 0;
}

result unlock_message_decode_hello(const void *data, size_t length, struct unlock_message_hello *ret, struct error *err)
{
    cJSON *tree = length <= UNLOCK_MESSAGE_MAX ? cJSON_ParseWithLength(data, length) : NULL;

    *ret = (struct unlock_message_hello){.tree = tree};
    if (take_hello(tree, ret))
        return ERROR_NONE;
    unlock_message_free_hello(ret);
    return error_set(err, ERROR_PROTOCOL, "who listens there does not greet as a keyholder");
}

void unlock_message_free_hello(struct unlock_message_hello *hello)
{
    cJSON_Delete(hello->tree);
    *hello = (struct unlock_message_hello){.tree = NULL};
}

char *unlock_message_encode_answer(const struct error *outcome)
{
    cJSON *object = cJSON_CreateObject();
    bool complete = cJSON_AddStringToObject(object, "type", "answer") != NULL &&
                    cJSON_AddStringToObject(object, "category", error_category_name(outcome->category)) != NULL &&
                    cJSON_AddStringToObject(object, "text", outcome->text) != NULL;

    return print_and_delete(object, complete);
}

result unlock_message_decode_answer(const void *data, size_t length, struct error *ret_outcome, struct error *err)
{
    cJSON *tree = length <= UNLOCK_MESSAGE_MAX ? cJSON_ParseWithLength(data, length) : NULL;
    const char *type = json_text(tree, "type"), *category = json_text(tree, "category"),
               *text = json_text(tree, "text");
    struct error outcome = ERROR_INIT;
    bool found = false;

    for (int i = ERROR_NONE; i <= ERROR_USAGE && category != NULL && !found; i++) {
        found = strcmp(category, error_category_name((enum error_category)i)) == 0;
        outcome.category = (enum error_category)i;
    }
    found = found && type != NULL && strcmp(type, "answer") == 0 && text != NULL;
    if (found && outcome.category != ERROR_NONE)
        (void)error_set(&outcome, outcome.category, "%s", text);
    cJSON_Delete(tree);
    if (!found)
        return error_set(err, ERROR_PROTOCOL, "the answer is not a keyholder's");
    *ret_outcome = outcome;
    return ERROR_NONE;
}

#include "client/alpn_list.h"

#include <stdlib.h>
#include <string.h>

result alpn_list_parse(const char *text, struct alpn_list *ret, struct error *err)
{
    char *save = NULL;

    *ret = (struct alpn_list){.text = NULL};
    if (text == NULL)
        return ERROR_NONE;
    ret->text = strdup(text);
    if (ret->text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    for (char *name = strtok_r(ret->text, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
        size_t length = strlen(name);

        if (ret->n == ALPN_LIST_MAX || length > 255)
            return error_set(err, ERROR_USAGE, "--alpn: at most %d names of at most 255 bytes", ALPN_LIST_MAX);
        ret->names[ret->n++] = name;
        ret->wire[ret->wire_length++] = (unsigned char)length;
        memcpy(ret->wire + ret->wire_length, name, length);
        ret->wire_length += (unsigned)length;
    }
    if (ret->n == 0)
        return error_set(err, ERROR_USAGE, "--alpn: names separated by commas are wanted");
    return ERROR_NONE;
}

void alpn_list_clear(struct alpn_list *list)
{
    free(list->text);
    *list = (struct alpn_list){.text = NULL};
}

#include "client/control_text.h"

#include <string.h>

#define COLUMN 14 /* where values begin */
#define CELL_BYTES 2048

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* A printable copy in `cell`; "" for NULL. */
static const char *shown(const char *text, char cell[CELL_BYTES])
{
    (void)snprintf(cell, CELL_BYTES, "%s", text == NULL ? "" : text);
    for (char *at = cell; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    }
    return cell;
}

static void line(FILE *out, const char *name, const char *value)
{
    char cell[CELL_BYTES];

    if (value != NULL)
        (void)fprintf(out, "%-*s%s\n", COLUMN, name, shown(value, cell));
}

static void line_number(FILE *out, const char *name, const cJSON *value)
{
    if (cJSON_IsNumber(value))
        (void)fprintf(out, "%-*s%.0f\n", COLUMN, name, value->valuedouble);
}

static int widest(const cJSON *list, const char *member)
{
    const cJSON *item;
    size_t most = 0;

    cJSON_ArrayForEach(item, list)
    {
        const char *text = text_of(item, member);
        size_t length = text == NULL ? 0 : strlen(text);

        most = length > most ? length : most;
    }
    return most > 64 ? 64 : (int)most;
}

static void print_identities(const cJSON *answer, int indent, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "identities");
    int name_width = widest(list, "name"), state_width = widest(list, "state");
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        char name[CELL_BYTES], state[CELL_BYTES], cell[CELL_BYTES];
        const char *since = text_of(item, "since"), *why = text_of(item, "reason");

        (void)fprintf(out, "%*s%-*s  %-*s", indent, "", name_width, shown(text_of(item, "name"), name), state_width,
                      shown(text_of(item, "state"), state));
        if (since != NULL)
            (void)fprintf(out, "  since %s", shown(since, cell));
        if (why != NULL)
            (void)fprintf(out, "  %s", shown(why, cell));
        (void)fputc('\n', out);
    }
}

void control_text_identities(const cJSON *answer, FILE *out)
{
    print_identities(answer, 0, out);
}

/* "a, b" */
static void print_names(const cJSON *list, FILE *out)
{
    const cJSON *item;
    const char *separator = "";

    cJSON_ArrayForEach(item, list)
    {
        char cell[CELL_BYTES];

        (void)fprintf(out, "%s%s", separator, shown(cJSON_GetStringValue(item), cell));
        separator = ", ";
    }
    (void)fputc('\n', out);
}

static void print_keyholders(const cJSON *answer, FILE *out)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "keyholders"))
    {
        const cJSON *pid = cJSON_GetObjectItemCaseSensitive(item, "pid");
        const cJSON *restarts = cJSON_GetObjectItemCaseSensitive(item, "restarts");

        if (cJSON_IsNumber(pid))
            (void)fprintf(out, "  pid %.0f, ", pid->valuedouble);
        else
            (void)fputs("  not running, ", out);
        if (cJSON_IsNumber(restarts))
            (void)fprintf(out, "restarted %.0f times, ", restarts->valuedouble);
        (void)fputs("holds ", out);
        print_names(cJSON_GetObjectItemCaseSensitive(item, "identities"), out);
    }
}

static void print_services(const cJSON *answer, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "services");
    int width = widest(list, "name");
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        char kind[CELL_BYTES], name[CELL_BYTES];

        (void)fprintf(out, "  %s %-*s  ", shown(text_of(item, "kind"), kind), width,
                      shown(text_of(item, "name"), name));
        print_names(cJSON_GetObjectItemCaseSensitive(item, "listen"), out);
    }
}

void control_text_status(const cJSON *answer, FILE *out)
{
    line(out, "program", text_of(answer, "program"));
    line(out, "version", text_of(answer, "version"));
    line_number(out, "pid", cJSON_GetObjectItemCaseSensitive(answer, "pid"));
    line(out, "config", text_of(answer, "config"));
    line(out, "since", text_of(answer, "since"));
    line_number(out, "generation", cJSON_GetObjectItemCaseSensitive(answer, "generation"));
    (void)fputs("identities\n", out);
    print_identities(answer, 2, out);
    (void)fputs("keyholders\n", out);
    print_keyholders(answer, out);
    (void)fputs("services\n", out);
    print_services(answer, out);
}

void control_text_errors(const cJSON *answer, FILE *out)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "errors"))
    {
        char cell[CELL_BYTES];

        (void)fprintf(out, "%s\n", shown(cJSON_GetStringValue(item), cell));
    }
}

result control_text_json(const cJSON *answer, FILE *out, struct error *err)
{
    char *text = cJSON_Print(answer);

    if (text == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    (void)fprintf(out, "%s\n", text);
    cJSON_free(text);
    return ERROR_NONE;
}

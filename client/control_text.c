#include "client/control_text.h"

#include "base/json.h"

#include <stdbool.h>
#include <string.h>

#define COLUMN 14 /* where values begin */
#define CELL_BYTES 2048

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
        const char *text = json_text(item, member);
        size_t length = text == NULL ? 0 : strlen(text);

        most = length > most ? length : most;
    }
    return most > 64 ? 64 : (int)most;
}

/* Of an identity with a list of tokens: each of them. */
static void print_tokens(const cJSON *identity, int indent, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(identity, "tokens");
    int state_width = widest(list, "state");
    const cJSON *item;

    if (cJSON_GetArraySize(list) < 2)
        return;
    cJSON_ArrayForEach(item, list)
    {
        char state[CELL_BYTES], uri[CELL_BYTES], reason[CELL_BYTES];
        const char *why = json_text(item, "reason");

        (void)fprintf(out, "%*s%-*s  %s%s%s\n", indent, "", state_width, shown(json_text(item, "state"), state),
                      shown(json_text(item, "uri"), uri), why == NULL ? "" : "  ", shown(why, reason));
    }
}

void control_text_identities(const cJSON *answer, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "identities");
    int name_width = widest(list, "name"), state_width = widest(list, "state");
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        char name[CELL_BYTES], state[CELL_BYTES], since[CELL_BYTES], why[CELL_BYTES];
        const char *begin = json_text(item, "since"), *reason = json_text(item, "reason");

        shown(json_text(item, "name"), name);
        shown(json_text(item, "state"), state);
        (void)fprintf(out, "%-*s  %-*s%s%s%s%s\n", name_width, name, begin == NULL && reason == NULL ? 0 : state_width,
                      state, begin == NULL ? "" : "  since ", shown(begin, since), reason == NULL ? "" : "  ",
                      shown(reason, why));
        print_tokens(item, 2, out);
    }
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

/* A column of a table; "-" for what is not known. */
static void print_number(const cJSON *object, const char *name, int width, int digits, FILE *out)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);

    if (cJSON_IsNumber(value))
        (void)fprintf(out, "  %*.*f", width, digits, value->valuedouble);
    else
        (void)fprintf(out, "  %*s", width, "-");
}

static int wide_enough(const cJSON *list, const char *title)
{
    int width = widest(list, "name");

    return width > (int)strlen(title) ? width : (int)strlen(title);
}

static void print_identity_table(const cJSON *answer, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "identities");
    int width = wide_enough(list, "identity");
    const cJSON *item;

    if (cJSON_GetArraySize(list) == 0)
        return;
    (void)fprintf(out, "\n%-*s  %-8s  %10s  %6s  %8s  %8s  %9s  %s\n", width, "identity", "state", "signatures",
                  "failed", "p50 ms", "p99 ms", "cert days", "state since");
    cJSON_ArrayForEach(item, list)
    {
        char name[CELL_BYTES], state[CELL_BYTES], reason[CELL_BYTES];
        const char *why = json_text(item, "reason");

        (void)fprintf(out, "%-*s  %-8s", width, shown(json_text(item, "name"), name),
                      shown(json_text(item, "state"), state));
        print_number(item, "signatures", 10, 0, out);
        print_number(item, "not_signed", 6, 0, out);
        print_number(item, "sign_p50_ms", 8, 1, out);
        print_number(item, "sign_p99_ms", 8, 1, out);
        print_number(item, "days_left", 9, 0, out);
        (void)fprintf(out, "  %s\n", shown(json_text(item, "since"), reason));
        if (why != NULL)
            (void)fprintf(out, "  %s\n", shown(why, reason));
        print_tokens(item, 2, out);
    }
}

static void print_warm(const cJSON *item, FILE *out)
{
    const cJSON *warm = cJSON_GetObjectItemCaseSensitive(item, "warm");

    if (cJSON_IsObject(warm))
        (void)fprintf(out, "  warm: %.0f of %.0f ready, %.0f used, %.0f missed, %.0f failed, %.0f dropped\n",
                      json_number(warm, "ready"), json_number(warm, "wanted"), json_number(warm, "used"),
                      json_number(warm, "missed"), json_number(warm, "failed"), json_number(warm, "dropped"));
}

static void print_service(const cJSON *item, int width, FILE *out)
{
    char name[CELL_BYTES], text[CELL_BYTES], when[CELL_BYTES];
    double handshakes = json_number(item, "handshakes");

    (void)fprintf(out, "%-*s", width, shown(json_text(item, "name"), name));
    print_number(item, "open", 6, 0, out);
    print_number(item, "total", 8, 0, out);
    print_number(item, "failed", 6, 0, out);
    if (handshakes > 0)
        (void)fprintf(out, "  %6.0f%%", json_number(item, "resumed") * 100 / handshakes);
    else
        (void)fprintf(out, "  %7s", "-");
    print_number(item, "handshake_p50_ms", 8, 1, out);
    print_number(item, "handshake_p99_ms", 8, 1, out);
    (void)fputs("  ", out);
    print_names(cJSON_GetObjectItemCaseSensitive(item, "listen"), out);
    print_warm(item, out);
    if (json_text(item, "last_failure") != NULL)
        (void)fprintf(out, "  last failure %s: %s\n", shown(json_text(item, "last_failure_at"), when),
                      shown(json_text(item, "last_failure"), text));
}

static void print_service_table(const cJSON *answer, FILE *out)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "services");
    const char *kind = json_text(cJSON_GetArrayItem(list, 0), "kind");
    char cell[CELL_BYTES];
    int width;
    const cJSON *item;

    if (kind == NULL)
        return;
    width = wide_enough(list, shown(kind, cell));
    (void)fprintf(out, "\n%-*s  %6s  %8s  %6s  %7s  %8s  %8s  %s\n", width, cell, "open", "total", "failed", "resumed",
                  "p50 ms", "p99 ms", "listens on");
    cJSON_ArrayForEach(item, list)
    {
        print_service(item, width, out);
    }
}

static void print_crl(const cJSON *crl, const char *service, FILE *out)
{
    const cJSON *entries = cJSON_GetObjectItemCaseSensitive(crl, "entries");
    const cJSON *age = cJSON_GetObjectItemCaseSensitive(crl, "age_s");
    const char *until = json_text(crl, "next_update");
    double seconds = cJSON_IsNumber(age) ? age->valuedouble : 0;
    char name[CELL_BYTES], issuer[CELL_BYTES], when[CELL_BYTES], source[CELL_BYTES];

    (void)fprintf(out, "  %s: %s%s, %.1f h old, next update %s, %.0f entries, from %s\n", shown(service, name),
                  shown(json_text(crl, "issuer"), issuer), json_true(crl, "delta") ? " (delta)" : "", seconds / 3600,
                  until == NULL ? "unknown" : shown(until, when), cJSON_IsNumber(entries) ? entries->valuedouble : 0,
                  shown(json_text(crl, "source"), source));
}

static void print_crls(const cJSON *answer, FILE *out)
{
    const cJSON *service, *crl;
    bool any = false;

    cJSON_ArrayForEach(service, cJSON_GetObjectItemCaseSensitive(answer, "services"))
    {
        cJSON_ArrayForEach(crl, cJSON_GetObjectItemCaseSensitive(service, "crls"))
        {
            if (!any)
                (void)fputs("\ncrls\n", out);
            any = true;
            print_crl(crl, json_text(service, "name"), out);
        }
    }
}

void control_text_status(const cJSON *answer, FILE *out)
{
    line(out, "program", json_text(answer, "program"));
    line(out, "version", json_text(answer, "version"));
    line_number(out, "pid", cJSON_GetObjectItemCaseSensitive(answer, "pid"));
    line(out, "config", json_text(answer, "config"));
    line(out, "since", json_text(answer, "since"));
    line_number(out, "generation", cJSON_GetObjectItemCaseSensitive(answer, "generation"));
    print_service_table(answer, out);
    print_identity_table(answer, out);
    print_crls(answer, out);
    (void)fputs("\nkeyholders\n", out);
    print_keyholders(answer, out);
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

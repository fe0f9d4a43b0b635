#include "daemon/crl_lines.h"

#include "base/log.h"

#include <stdio.h>
#include <time.h>

static void when_text(int64_t when, char out[32])
{
    time_t seconds = (time_t)when;
    struct tm broken;

    out[0] = '\0';
    if (when > 0 && gmtime_r(&seconds, &broken) != NULL)
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &broken);
}

void crl_lines_take(void *arg, enum crl_store_fate fate, const struct crl_store_row *row, const char *why)
{
    struct crl_lines *lines = arg;
    struct crl_line *line;

    if (fate == CRL_STORE_REFUSED)
        lines->refused = true;
    else if (row->next_update > 0 && (lines->next_update == 0 || row->next_update < lines->next_update))
        lines->next_update = row->next_update;
    if (fate == CRL_STORE_SAME)
        return;
    if (lines->n == CRL_LINES_MAX) {
        lines->left_out++;
        return;
    }
    line = &lines->items[lines->n++];
    line->fate = fate;
    line->row = *row;
    (void)snprintf(line->why, sizeof(line->why), "%s", why == NULL ? "" : why);
}

static void write_line(const char *service, const struct crl_line *line)
{
    const struct crl_store_row *row = &line->row;
    char since[32], until[32];

    when_text(row->this_update, since);
    when_text(row->next_update, until);
    if (line->fate == CRL_STORE_REFUSED)
        log_warning("crl refused", LOG_TEXT("service", service), LOG_TEXT("source", row->source),
                    LOG_TEXT("issuer", row->issuer), LOG_TEXT("number", row->number), LOG_TEXT("this_update", since),
                    LOG_TEXT("reason", line->why));
    else
        log_info("crl loaded", LOG_TEXT("service", service), LOG_TEXT("source", row->source),
                 LOG_TEXT("issuer", row->issuer), LOG_TEXT("number", row->number), LOG_TEXT("this_update", since),
                 LOG_TEXT("next_update", until), LOG_NUMBER("entries", row->entries), LOG_BOOL("delta", row->delta),
                 LOG_BOOL("checked", row->proven));
}

void crl_lines_write(const char *service, const struct crl_lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        write_line(service, &lines->items[i]);
    if (lines->left_out > 0)
        log_info("more crls of the same source", LOG_TEXT("service", service), LOG_NUMBER("crls", lines->left_out));
}

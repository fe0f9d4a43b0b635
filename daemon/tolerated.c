#include "daemon/tolerated.h"

#include "base/log.h"
#include "tls/connection.h"
#include "tls/verify/verdict.h"

#include <stdatomic.h>
#include <string.h>

static atomic_uint_fast64_t total;

static bool is_tolerated(const struct verdict *verdict, size_t i)
{
    return verdict->accepted && strcmp(verdict->notes[i].check, verdict_step_check(VERDICT_REVOCATION)) == 0;
}

void tolerated_log(const char *kind, const char *service, const struct connection_info *info)
{
    const struct verdict *verdict = info->verdict;

    for (size_t i = 0; verdict != NULL && i < verdict->n_notes; i++) {
        const struct verdict_note *note = &verdict->notes[i];

        if (is_tolerated(verdict, i))
            log_warning("revocation status unknown, tolerated", LOG_TEXT(kind, service),
                        LOG_TEXT("subject", note->subject), LOG_TEXT("reason", note->text),
                        LOG_NUMBER("total", atomic_fetch_add(&total, 1) + 1));
    }
}

uint64_t tolerated_count(const struct verdict *verdict)
{
    uint64_t n = 0;

    for (size_t i = 0; i < verdict->n_notes; i++)
        n += is_tolerated(verdict, i) ? 1 : 0;
    return n;
}

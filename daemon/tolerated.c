#include "daemon/tolerated.h"

#include "base/log.h"
#include "tls/connection.h"
#include "tls/verify/verdict.h"

#include <stdatomic.h>
#include <string.h>

static atomic_uint_fast64_t total;

void tolerated_log(const char *kind, const char *service, const struct connection_info *info)
{
    const char *revocation = verdict_step_check(VERDICT_REVOCATION);
    const struct verdict *verdict = info->verdict;

    for (size_t i = 0; verdict != NULL && verdict->accepted && i < verdict->n_notes; i++) {
        const struct verdict_note *note = &verdict->notes[i];

        if (strcmp(note->check, revocation) != 0)
            continue;
        log_warning("revocation status unknown, tolerated", LOG_TEXT(kind, service), LOG_TEXT("subject", note->subject),
                    LOG_TEXT("reason", note->text), LOG_NUMBER("total", atomic_fetch_add(&total, 1) + 1));
    }
}

uint64_t tolerated_total(void)
{
    return atomic_load(&total);
}

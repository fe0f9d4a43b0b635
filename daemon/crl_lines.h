/* What became of the CRLs of one source, until it is time to write it into the log. Any thread, one at a time. */
#ifndef TOKENTLS_DAEMON_CRL_LINES_H
#define TOKENTLS_DAEMON_CRL_LINES_H

#include "tls/verify/crl_store.h"

/* Lines for one source at the most. */
#define CRL_LINES_MAX 16

struct crl_line {
    enum crl_store_fate fate;
    struct crl_store_row row;
    char why[96];
};

/* Zeroed memory has none. */
struct crl_lines {
    struct crl_line items[CRL_LINES_MAX];
    size_t n, left_out;
    int64_t next_update; /* the earliest of the CRLs that are in use now; 0: none */
    bool refused;
};

/* A crl_store_report_fn; `arg` is the struct crl_lines. */
void crl_lines_take(void *arg, enum crl_store_fate fate, const struct crl_store_row *row, const char *why);

/* "crl loaded" and "crl refused" for the service of this name. */
void crl_lines_write(const char *service, const struct crl_lines *lines);

#endif

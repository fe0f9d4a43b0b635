/* What the modes of `bounds` share; bounds.c says what each measures. */
#ifndef TOKENTLS_BENCH_BOUNDS_H
#define TOKENTLS_BENCH_BOUNDS_H

#include <time.h>

/* A clock in seconds. */
double bounds_seconds(clockid_t clock);

/* The modes: `words` are the arguments behind the mode's name, as many as bounds.c says. Exit status. */
int bounds_sign(char **words);
int bounds_handshake(char **words);
int bounds_gcm(char **words);

#endif

/*
 * bounds: what the parts cost that nobody can do without, each alone in one process.
 *
 *   bounds sign MODULE TOKEN PIN_FILE LABEL THREADS WINDOW_MS              C_SignInit and C_Sign straight on the module
 *   bounds handshake SERVER_CHAIN SERVER_KEY CLIENT_CHAIN CLIENT_KEY TRUST 1.2|1.3 full|resumed WINDOW_MS
 *                                                                          OpenSSL's both sides through memory
 *   bounds gcm BYTES WINDOW_MS                                             AES-256-GCM, records of so many bytes
 *
 * Each prints one JSON object; seconds are those of the wall, cpu_seconds user and system time.
 */
#include "bounds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double bounds_seconds(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc == 8 && strcmp(argv[1], "sign") == 0)
        return bounds_sign(argv + 2);
    if (argc == 10 && strcmp(argv[1], "handshake") == 0)
        return bounds_handshake(argv + 2);
    if (argc == 4 && strcmp(argv[1], "gcm") == 0)
        return bounds_gcm(argv + 2);
    (void)fprintf(stderr, "bounds: the comment at the top of bounds.c says how it is called\n");
    return 2;
}

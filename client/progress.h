/*
 * A line on standard error that tells a person what is being waited for: "tokentls list: waiting for the modules: 3 s".
 * Only where standard error is a terminal, from the first full second on, and wiped at the end.
 */
#ifndef TOKENTLS_CLIENT_PROGRESS_H
#define TOKENTLS_CLIENT_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>

#define PROGRESS_TEXT_MAX 60 /* bytes: one line of a terminal with the seconds, or it could not be wiped */

/* The caller's; belongs to the module between begin and end. */
struct progress {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool running, ended;
    char text[PROGRESS_TEXT_MAX + 1];
};

/*
 * Begin to wait for `what`, which a thread of its own counts the seconds of, so that the caller may block. It takes no
 * signals and writes with write(2), so that a fork() in between is safe. Nothing else may be written to the terminal
 * until progress_end(): not for a wait in which a person is asked something. `what` NULL, and any failure: no line.
 */
void progress_begin(struct progress *progress, const char *what);

/* Wipe the line. Once after each progress_begin(), in the same thread. */
void progress_end(struct progress *progress);

#endif

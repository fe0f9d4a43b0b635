#include "client/progress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES (PROGRESS_TEXT_MAX + 32)

static void show(const char *line, int length)
{
    /* A terminal that does not take it has nobody who looks. */
    (void)!write(STDERR_FILENO, line, (size_t)length);
}

/* Blanks instead of an escape sequence: any terminal understands them. */
static void wipe(int width)
{
    char line[LINE_MAX_BYTES + 3];

    show(line, snprintf(line, sizeof(line), "\r%*s\r", width, ""));
}

static void *tick(void *arg)
{
    struct progress *progress = arg;
    struct timespec next;
    char line[LINE_MAX_BYTES];
    int width = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &next);
    (void)pthread_mutex_lock(&progress->mutex);
    for (unsigned seconds = 1; !progress->ended; seconds++) {
        next.tv_sec++;
        while (!progress->ended && pthread_cond_timedwait(&progress->changed, &progress->mutex, &next) != ETIMEDOUT)
            continue;
        if (progress->ended)
            break;
        width = snprintf(line, sizeof(line), "\rtokentls %s: %u s ", progress->text, seconds);
        show(line, width);
    }
    (void)pthread_mutex_unlock(&progress->mutex);
    if (width > 0)
        wipe(width - 1);
    return NULL;
}

/* The caller's thread alone is to be interrupted by signals: its poll() waits for them. */
static bool start(struct progress *progress)
{
    sigset_t all, before;
    bool ok;

    (void)sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    ok = pthread_create(&progress->thread, NULL, tick, progress) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

void progress_begin(struct progress *progress, const char *what)
{
    pthread_condattr_t attributes;

    *progress = (struct progress){.running = false};
    if (what == NULL || isatty(STDERR_FILENO) != 1 || pthread_condattr_init(&attributes) != 0)
        return;
    (void)snprintf(progress->text, sizeof(progress->text), "%s", what);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&progress->mutex, NULL);
    (void)pthread_cond_init(&progress->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    progress->running = start(progress);
}

void progress_end(struct progress *progress)
{
    if (!progress->running)
        return;
    (void)pthread_mutex_lock(&progress->mutex);
    progress->ended = true;
    (void)pthread_cond_signal(&progress->changed);
    (void)pthread_mutex_unlock(&progress->mutex);
    (void)pthread_join(progress->thread, NULL);
    (void)pthread_cond_destroy(&progress->changed);
    (void)pthread_mutex_destroy(&progress->mutex);
    progress->running = false;
}

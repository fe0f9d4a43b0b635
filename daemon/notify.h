/* Messages to the service manager over $NOTIFY_SOCKET (sd_notify(3)). */
#ifndef TOKENTLS_DAEMON_NOTIFY_H
#define TOKENTLS_DAEMON_NOTIFY_H

/* Send "READY=1", "STOPPING=1", "RELOADING=1" or others, with MONOTONIC_USEC for the latter. Without a manager, and
 * when it cannot be reached, nothing happens. */
void notify_send(const char *state);

#endif

/* Connections that are open and do nothing. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Neither ended nor with bytes that nobody has asked for. */
static bool is_quiet(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

int load_idle(const struct load_options *options)
{
    int *fds = calloc(options->connections, sizeof(*fds));
    char line[64];
    size_t open;
    size_t quiet = 0;

    if (fds == NULL)
        load_die("memory");
    open = load_open_all(options, 'e', fds, options->connections);
    (void)printf("{\"open\":%zu,\"failed\":%zu}\n", open, options->connections - open);
    (void)fflush(stdout);
    if (fgets(line, sizeof(line), stdin) == NULL)
        return 1;
    for (size_t i = 0; i < options->connections; i++)
        quiet += fds[i] >= 0 && is_quiet(fds[i]);
    (void)printf("{\"quiet\":%zu}\n", quiet);
    return open > 0 ? 0 : 1;
}

#include "net/resolver.h"

#include <ares.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define QUERY_TIMEOUT_MS 2000
#define QUERY_TRIES 3

/* c-ares queries two record types, over UDP and when truncated over TCP, at each server of resolv.conf. */
#define SOCKETS_MAX ARES_GETSOCK_MAXNUM

struct resolver_socket {
    struct resolver_lookup *lookup;
    ares_socket_t fd;
    struct loop_watch *watch; /* NULL: the slot is free */
};

/*
 * One channel a lookup: c-ares cancels per channel only, and may answer from within any call of its own. The answer is
 * kept and delivered when c-ares is off the stack.
 */
struct resolver_lookup {
    struct loop *loop;
    ares_channel channel;
    struct resolver_socket sockets[SOCKETS_MAX];
    struct loop_timer *timer;
    uint16_t port;
    resolver_done_fn *done;
    void *arg;
    bool answered;
    bool closing;
    int status; /* ARES_* */
    struct address_socket addresses[RESOLVER_ADDRESSES_MAX];
    size_t n;
};

static void dispose(struct resolver_lookup *lookup)
{
    lookup->closing = true;
    if (lookup->channel != NULL)
        ares_destroy(lookup->channel);
    for (size_t i = 0; i < SOCKETS_MAX; i++)
        loop_watch_free(lookup->sockets[i].watch);
    loop_timer_free(lookup->timer);
    free(lookup);
}

static void deliver(struct resolver_lookup *lookup)
{
    struct address_socket addresses[RESOLVER_ADDRESSES_MAX];
    struct error reason = ERROR_INIT;
    resolver_done_fn *done = lookup->done;
    void *arg = lookup->arg;
    size_t n = lookup->n;

    memcpy(addresses, lookup->addresses, sizeof(addresses));
    if (lookup->status != ARES_SUCCESS)
        (void)error_set_code(&reason, ERROR_IO, (unsigned long)lookup->status, "cannot resolve: %s",
                             ares_strerror(lookup->status));
    else if (n == 0)
        (void)error_set(&reason, ERROR_IO, "cannot resolve: the name has no address");
    dispose(lookup);
    done(arg, addresses, n, reason.category == ERROR_NONE ? NULL : &reason);
}

/* c-ares has run: deliver, or wait as long as it wants to. The last thing its caller does. */
static void proceed(struct resolver_lookup *lookup)
{
    struct timeval left;

    if (lookup->answered) {
        deliver(lookup);
        return;
    }
    if (ares_timeout(lookup->channel, NULL, &left) == NULL)
        loop_timer_clear(lookup->timer);
    else
        loop_timer_set(lookup->timer, (uint64_t)left.tv_sec * 1000 + (uint64_t)left.tv_usec / 1000 + 1);
}

static void on_timer(void *arg)
{
    struct resolver_lookup *lookup = arg;

    if (!lookup->answered)
        ares_process_fd(lookup->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    proceed(lookup);
}

static void on_socket(void *arg, unsigned events)
{
    const struct resolver_socket *socket_slot = arg;
    struct resolver_lookup *lookup = socket_slot->lookup;
    ares_socket_t fd = socket_slot->fd;

    ares_process_fd(lookup->channel, events & LOOP_READ ? fd : ARES_SOCKET_BAD,
                    events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    proceed(lookup);
}

static struct resolver_socket *find_slot(struct resolver_lookup *lookup, ares_socket_t fd)
{
    struct resolver_socket *unused = NULL;

    for (size_t i = 0; i < SOCKETS_MAX; i++) {
        struct resolver_socket *slot = &lookup->sockets[i];

        if (slot->watch != NULL && slot->fd == fd)
            return slot;
        if (slot->watch == NULL && unused == NULL)
            unused = slot;
    }
    return unused;
}

/* Without a free slot or memory the query runs into its time-out, and c-ares asks the next server. */
static void on_socket_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct resolver_lookup *lookup = data;
    struct resolver_socket *slot = find_slot(lookup, fd);
    unsigned interest = (readable ? LOOP_READ : 0U) | (writable ? LOOP_WRITE : 0U);

    if (slot == NULL)
        return;
    if (interest == 0) {
        loop_watch_free(slot->watch);
        slot->watch = NULL;
        return;
    }
    if (slot->watch == NULL) {
        slot->lookup = lookup;
        slot->fd = fd;
        slot->watch = loop_watch_new(lookup->loop, fd, on_socket, slot, NULL);
    }
    if (slot->watch != NULL)
        loop_watch_set(slot->watch, interest);
}

static void add_address(struct resolver_lookup *lookup, const struct ares_addrinfo_node *node)
{
    struct address_socket *to = &lookup->addresses[lookup->n];

    if (node->ai_addrlen > sizeof(to->storage) || (node->ai_family != AF_INET && node->ai_family != AF_INET6))
        return;
    memcpy(&to->storage, node->ai_addr, node->ai_addrlen);
    to->length = node->ai_addrlen;
    if (node->ai_family == AF_INET)
        to->in.sin_port = htons(lookup->port);
    else
        to->in6.sin6_port = htons(lookup->port);
    lookup->n++;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    struct resolver_lookup *lookup = arg;

    (void)timeouts;
    if (!lookup->closing) {
        lookup->answered = true;
        lookup->status = status;
        for (const struct ares_addrinfo_node *node = found == NULL ? NULL : found->nodes; node != NULL;
             node = node->ai_next) {
            if (lookup->n < RESOLVER_ADDRESSES_MAX)
                add_address(lookup, node);
        }
    }
    if (found != NULL)
        ares_freeaddrinfo(found);
}

static result open_channel(struct resolver_lookup *lookup, const char *servers, struct error *err)
{
    struct ares_options options = {.timeout = QUERY_TIMEOUT_MS,
                                   .tries = QUERY_TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = lookup};
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    int status = ares_init_options(&lookup->channel, &options, mask);

    if (status != ARES_SUCCESS) {
        lookup->channel = NULL;
        return error_set(err, ERROR_INTERNAL, "cannot start name resolution: %s", ares_strerror(status));
    }
    if (servers == NULL)
        return ERROR_NONE;
    status = ares_set_servers_ports_csv(lookup->channel, servers);
    if (status != ARES_SUCCESS)
        return error_set(err, ERROR_CONFIG, "cannot use the name servers \"%s\": %s", servers, ares_strerror(status));
    return ERROR_NONE;
}

struct resolver_lookup *resolver_start(const struct resolver_config *config, struct error *err)
{
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct resolver_lookup *lookup = calloc(1, sizeof(*lookup));

    if (lookup == NULL) {
        (void)error_set(err, ERROR_INTERNAL, "out of memory");
        return NULL;
    }
    lookup->loop = config->loop;
    lookup->port = config->port;
    lookup->done = config->done;
    lookup->arg = config->arg;
    lookup->timer = loop_timer_new(config->loop, on_timer, lookup, err);
    if (lookup->timer == NULL || open_channel(lookup, config->servers, err) != ERROR_NONE) {
        dispose(lookup);
        return NULL;
    }
    ares_getaddrinfo(lookup->channel, config->host, NULL, &hints, on_answer, lookup);
    if (lookup->answered)
        loop_timer_set(lookup->timer, 0);
    else
        proceed(lookup);
    return lookup;
}

void resolver_cancel(struct resolver_lookup *lookup)
{
    if (lookup != NULL)
        dispose(lookup);
}

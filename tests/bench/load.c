/*
 * load: plaintext load for what relays to tls-echo (whose first byte of a connection says what it does).
 *
 *   load connect --to HOST:PORT [--at-once K] [--pace US] [--window MS] [--tail MS]   open, a byte there and back,
 * close load ping    --to HOST:PORT [--connections N] [--bytes B] [--pace US] [--warm-up MS] [--window MS] load bulk
 * --to HOST:PORT [--connections N] --direction up|down|both [--warm-up MS] [--window MS] load idle    --to HOST:PORT
 * [--connections N] [--at-once K]                       open, say so, wait for a line on stdin
 *
 * Each prints one JSON object a line; times in microseconds. Exit status 1 when nothing could be measured.
 */
#include "load.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    int (*run)(const struct load_options *options);
} modes[] = {{"connect", load_connect}, {"ping", load_ping}, {"bulk", load_bulk}, {"idle", load_idle}};

static struct load_options options = {
    .at_once = 16, .connections = 1, .window_ms = 1000, .tail_ms = 10000, .bytes = 128, .direction = 'd'};

static bool set_address(const char *text)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    uint64_t port;

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host) || !text_parse_number(colon + 1, 1, 65535, &port))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    options.to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &options.to.sin_addr) == 1;
}

static bool set_direction(const char *text)
{
    options.direction = text_equal(text, "up") ? (char)'d' : text_equal(text, "down") ? (char)'s' : (char)'b';
    return options.direction != 'b' || text_equal(text, "both");
}

static bool set_number(int option, const char *text)
{
    uint64_t number;

    if (!text_parse_number(text, 0, 100000000, &number))
        return false;
    switch (option) {
    case 'k':
        options.at_once = (size_t)number;
        return number > 0;
    case 'n':
        options.connections = (size_t)number;
        return number > 0;
    case 'w':
        options.window_ms = number;
        return true;
    case 'u':
        options.warm_up_ms = number;
        return true;
    case 'l':
        options.tail_ms = number;
        return true;
    case 'p':
        options.pace_us = number;
        return true;
    case 'b':
        options.bytes = (size_t)number;
        return number > 0 && number <= 65536;
    default:
        return false;
    }
}

static int usage(const char *what)
{
    (void)fprintf(stderr, "load: %s; the comment at the top of load.c says how it is called\n", what);
    return 2;
}

static void raise_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"to", required_argument, NULL, 't'},        {"at-once", required_argument, NULL, 'k'},
        {"window", required_argument, NULL, 'w'},    {"connections", required_argument, NULL, 'n'},
        {"warm-up", required_argument, NULL, 'u'},   {"tail", required_argument, NULL, 'l'},
        {"pace", required_argument, NULL, 'p'},      {"bytes", required_argument, NULL, 'b'},
        {"direction", required_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        bool fine = option == 't'   ? set_address(optarg)
                    : option == 'd' ? set_direction(optarg)
                                    : set_number(option, optarg);

        if (!fine)
            return usage("bad option or value");
    }
    if (optind + 1 != argc || options.to.sin_port == 0)
        return usage("one mode, and --to");
    (void)signal(SIGPIPE, SIG_IGN);
    raise_limit();
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (text_equal(argv[optind], modes[i].name))
            return modes[i].run(&options);
    return usage("no such mode");
}

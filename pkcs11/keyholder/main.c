/* tokentls-keyholder: the only process that loads a PKCS#11 module, knows a PIN and holds a login. */
#include "base/log.h"
#include "pkcs11/keyholder/backend.h"
#include "pkcs11/keyholder/client.h"
#include "pkcs11/keyholder/control.h"
#include "pkcs11/keyholder/harden.h"
#include "pkcs11/keyholder/packet.h"
#include "pkcs11/keyholder/provisioner.h"
#include "pkcs11/keyholder/server.h"
#include "pkcs11/list.h"
#include "pkcs11/pin.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* CONFIG is in the socket before this program starts; whoever started it by hand has none. */
#define CONFIG_WAIT_MS 10000

/* One look at the token, login included, that takes longer is a hang: the slowest cards need a few seconds. */
#define LOOK_TIMEOUT_MS 60000

/* The same while the token is ready: a few questions, at most a login. OpenSC is known to hang there for ever after a
 * card was pulled during a signature. */
#define LOOK_READY_TIMEOUT_MS 10000

/* For threads that are still inside the module when the work is over. */
#define END_WAIT_MS 2000

#define EXIT_USAGE 2

static struct server *running; /* for the signal handler; set before SIGTERM is let in */

static void on_terminate(int signal_number)
{
    (void)signal_number;
    server_stop(running);
}

/* SIGINT and SIGHUP of a terminal go to the whole group: the parent decides when this process ends. */
static void set_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction terminate = {.sa_handler = on_terminate, .sa_flags = SA_RESTART};

    (void)sigaction(SIGINT, &ignore, NULL);
    (void)sigaction(SIGHUP, &ignore, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    (void)sigaction(SIGTERM, &terminate, NULL);
}

static result read_config(struct control_config *ret, struct error *err)
{
    struct pollfd control = {.fd = CONTROL_DESCRIPTOR, .events = POLLIN};
    enum control_request request = CONTROL_LINK;
    uint8_t *data = malloc(KEYHOLDER_MESSAGE_MAX);
    enum packet_status status = PACKET_AGAIN;
    size_t length = 0;
    result res;

    if (data == NULL)
        return error_set(err, ERROR_INTERNAL, "out of memory for the configuration");
    if (poll(&control, 1, CONFIG_WAIT_MS) > 0)
        status = packet_receive(CONTROL_DESCRIPTOR, data, KEYHOLDER_MESSAGE_MAX, &length, err);
    if (status == PACKET_OK)
        res = control_decode_request(data, length, &request, ret, err);
    else
        res = error_set(err, ERROR_PROTOCOL, "no configuration has come from the supervisor");
    free(data);
    if (res == ERROR_NONE && request != CONTROL_CONFIG)
        res = error_set(err, ERROR_PROTOCOL, "LINK before CONFIG");
    return res;
}

static void set_log(const struct keyholder_config *config)
{
    enum log_level level = LOG_LEVEL_INFO;

    if (config->log_level != NULL && !log_parse_level(config->log_level, &level))
        log_warning("unknown log level", LOG_TEXT("level", config->log_level));
    log_setup("tokentls-keyholder", level, config->log_json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
              config->log_priorities);
}

/* Told before the process ends, or the parent could not say why. Returns the exit status. */
static int report_failure(const struct keyholder_config *config, const struct error *reason)
{
    struct keyholder_event event = {.kind = KEYHOLDER_EVENT_STATE, .state = TOKEN_FAILED, .category = reason->category};
    char *text;

    if (config->n_identities > 0)
        (void)snprintf(event.identity, sizeof(event.identity), "%s", config->identities[0].name);
    (void)snprintf(event.text, sizeof(event.text), "%s", reason->text);
    text = control_encode_event(&event);
    if (text != NULL)
        (void)packet_send(CONTROL_DESCRIPTOR, text, strlen(text), -1, NULL);
    free(text);
    return error_exit_status(reason->category);
}

static result print_tree(const cJSON *tree, struct error *err)
{
    char *text = cJSON_Print(tree);
    bool printed = text != NULL && printf("%s\n", text) > 0 && fflush(stdout) == 0;

    free(text);
    return printed ? ERROR_NONE : error_set(err, ERROR_IO, "cannot write the list");
}

static int list(const struct keyholder_config *config, int pin_descriptor, struct error *err)
{
    const char *const modules[] = {config->module};
    struct list_config what = {.modules = modules,
                               .n_modules = config->module == NULL ? 0 : 1,
                               .uri = config->n_identities > 0 ? config->identities[0].uri : NULL,
                               .state_directory = config->state_directory,
                               .unlock_command = config->unlock_command};
    struct pin_source *pin = NULL;
    cJSON *tree = NULL;
    result res = ERROR_NONE;

    if (config->allow_login && config->pin_source != NULL)
        res = pin_source_new(config->pin_source, pin_descriptor, &pin, err);
    what.pin = pin;
    if (res == ERROR_NONE)
        res = list_build(&what, &tree, err);
    if (res == ERROR_NONE)
        res = print_tree(tree, err);
    cJSON_Delete(tree);
    pin_source_free(pin);
    return res == ERROR_NONE ? 0 : report_failure(config, err);
}

/* Without it nobody can give a PIN; whoever needs none can be served all the same. */
static void listen_for_pins(struct server *server, const struct keyholder_config *config, enum unlock_message_pin pin)
{
    struct error err = ERROR_INIT;

    if (server_listen(server, config->state_directory, pin, config->pin_source == NULL ? "" : config->pin_source,
                      &err) != ERROR_NONE)
        log_warning("no unlock socket", LOG_TEXT("reason", err.text));
}

static int serve(const struct keyholder_config *config, int pin_descriptor, struct error *err)
{
    struct server_config server = {
        .keyring = {.ops = &backend_ops,
                    .purpose = config->purpose,
                    .identities = config->identities,
                    .n_identities = config->n_identities},
        .control = CONTROL_DESCRIPTOR,
        .sign_timeout_ms = config->sign_timeout_ms,
        .poll_ms = config->poll_ms == 0 ? KEYHOLDER_POLL_MS : config->poll_ms,
        .idle_logout_ms = config->idle_logout_ms,
    };
    struct backend *backend = backend_new(config, pin_descriptor, err);
    int status;

    if (backend == NULL)
        return report_failure(config, err);
    server.keyring.token = backend;
    server.look_timeout_ms = backend_is_interactive(backend) ? 0 : LOOK_TIMEOUT_MS;
    server.look_ready_timeout_ms = backend_is_interactive(backend) ? 0 : LOOK_READY_TIMEOUT_MS;
    running = server_new(&server, err);
    if (running == NULL) {
        backend_free(backend);
        return report_failure(config, err);
    }
    backend_on_waiting(backend, server_waiting, running);
    if (config->unlock_socket && config->state_directory != NULL)
        listen_for_pins(running, config, backend_takes_pin(backend));
    set_signals();
    status = server_run(running);
    /* a module that does not come back is left as it is: the process ends around it */
    if (status != KEYHOLDER_EXIT_HUNG && server_join(running, END_WAIT_MS)) {
        (void)signal(SIGTERM, SIG_IGN); /* its handler must not meet a freed server */
        server_free(running);
        backend_free(backend);
    }
    return status;
}

/* SIGINT of a terminal goes to the whole group: the parent decides whether what is half done is finished or undone. */
static int provision(const struct keyholder_config *config, int pin_descriptor, struct error *err)
{
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    return provisioner_run(config, pin_descriptor, err) == ERROR_NONE ? 0 : report_failure(config, err);
}

static bool is_started_by_hand(void)
{
    int type = 0;
    socklen_t length = sizeof(type);

    return getsockopt(CONTROL_DESCRIPTOR, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_SEQPACKET;
}

static int print_usage(bool asked)
{
    (void)fprintf(asked ? stdout : stderr,
                  "tokentls-keyholder holds the login to a PKCS#11 token and signs TLS handshakes.\n"
                  "It is started by tokentls-agent, tokentls-gateway and tokentls, not by hand.\n");
    return asked ? EXIT_SUCCESS : EXIT_USAGE;
}

static int work(void)
{
    struct control_config config = {.pin_descriptor = -1};
    struct error err = ERROR_INIT;
    int status;

    if (harden_process(&err) != ERROR_NONE || read_config(&config, &err) != ERROR_NONE) {
        log_error("cannot start", LOG_TEXT("reason", err.text));
        return error_exit_status(err.category);
    }
    set_log(&config.config);
    if (config.config.purpose == KEYHOLDER_PURPOSE_LIST)
        status = list(&config.config, config.pin_descriptor, &err);
    else if (config.config.purpose == KEYHOLDER_PURPOSE_ENROL || config.config.purpose == KEYHOLDER_PURPOSE_PROVISION)
        status = provision(&config.config, config.pin_descriptor, &err);
    else
        status = serve(&config.config, config.pin_descriptor, &err);
    if (err.category != ERROR_NONE)
        log_error("cannot go on", LOG_TEXT("reason", err.text));
    control_config_free(&config);
    return status;
}

int main(int argc, char **argv)
{
    int status;

    if (argc > 1)
        return print_usage(strcmp(argv[1], "--help") == 0);
    if (is_started_by_hand())
        return print_usage(false);
    log_setup("tokentls-keyholder", LOG_LEVEL_INFO, LOG_FORMAT_TEXT, false);
    status = work();
    (void)fflush(NULL);
    /* not exit(): what vendors register there runs after their module was finalised, or beside a thread hung in it */
    _exit(status);
}

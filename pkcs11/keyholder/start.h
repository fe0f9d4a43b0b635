/*
 * Starting a keyholder process: used by the daemons' supervisor and by the command line. The parent never keeps a PIN
 * longer than it takes to write it into the child's pipe, save for env: and fd: sources, which cannot be read twice
 * and are kept in secret memory for restarts.
 */
#ifndef TOKENTLS_PKCS11_KEYHOLDER_START_H
#define TOKENTLS_PKCS11_KEYHOLDER_START_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum keyholder_purpose {
    KEYHOLDER_PURPOSE_CLIENT,    /* TLS client authentication */
    KEYHOLDER_PURPOSE_SERVER,    /* a gateway's own key */
    KEYHOLDER_PURPOSE_ENROL,     /* command line only: make a key pair, and sign certificate requests for it
                                    (keyholder/provisioner.h); `module` and the URI of the first identity are the token */
    KEYHOLDER_PURPOSE_PROVISION, /* command line only: initialise a token, store certificates; never signs. `module`,
                                    and the URI of the first identity if there is one */
    KEYHOLDER_PURPOSE_LIST /* enumerate objects, write the JSON of pkcs11/list.h to standard output, exit (0, or the
                              status of the error that a STATE event then carries); never signs. `module` and the
                              URI of the first identity, if there is one, narrow it down */
};

struct keyholder_identity_config {
    const char *name;        /* at most KEYHOLDER_NAME_MAX - 1 bytes */
    const char *uri;         /* RFC 7512 */
    const char *certificate; /* file, or NULL: on the token */
    bool require_hardware;
};

/* One keyholder: one module, module environment and token. Strings are borrowed. */
struct keyholder_config {
    enum keyholder_purpose purpose;
    const char *module; /* path, p11-kit name, or NULL */
    const char *const
        *module_environment;     /* "NAME=value" entries added to the inherited environment; NULL-terminated or NULL */
    const char *pin_source;      /* NULL: none */
    const char *state_directory; /* PIN guard */
    const struct keyholder_identity_config *identities;
    size_t n_identities;
    unsigned sessions;        /* 0: auto */
    uint64_t sign_timeout_ms; /* from STARTED */
    const char *log_level;    /* passed on; NULL: info */
    bool log_json;
    bool log_priorities;
    bool allow_login;           /* LIST: log in to see private objects */
    uint64_t poll_ms;           /* look for the token this often; 0: KEYHOLDER_POLL_MS */
    bool locked;                /* by a person: no login before KEYHOLDER_ORDER_CLEAR */
    bool pin_withdrawn;         /* a person has replaced what env: or fd: held; it is not handed over again */
    bool unlock_socket;         /* listen for a person's PIN at unlock_socket_path(state_directory, own process id) */
    uint64_t idle_logout_ms;    /* log out after so long without a signature; 0: never */
    uint64_t pin_timeout_ms;    /* longest wait for a person who is asked; 0: the default of pkcs11/pin.h */
    const char *unlock_command; /* what a person types for that, for messages; NULL: "tokentls unlock" */
};

#define KEYHOLDER_POLL_MS 1000

/* Exit status of a keyholder that gave up because a call into the module did not return. */
#define KEYHOLDER_EXIT_HUNG 71

struct keyholder_process {
    pid_t pid;
    int control; /* SOCK_SEQPACKET, non-blocking, close-on-exec; keyholder/control.h */
};

/*
 * The program: `tokentls-keyholder` beside the running executable, then in libexec; never by PATH. Written to out.
 * ERROR_IO when neither exists.
 */
MUST_USE result keyholder_program_path(char *out, size_t size, struct error *err);

/*
 * If the source is env: or fd:, read the PIN into a secret, and wipe and remove the environment variable or close the
 * descriptor; otherwise *ret_secret is NULL and nothing happens. Call before any process is started.
 */
MUST_USE result keyholder_take_pin(const char *pin_source, struct secret **ret_secret, struct error *err);

/* A pipe that already holds the PIN and ends after it: *ret_fd is its read end, the caller's. ERROR_IO. */
MUST_USE result keyholder_pin_pipe(const struct secret *pin, int *ret_fd, struct error *err);

/*
 * fork and exec. `pin`: what keyholder_take_pin() returned (written to a pipe the child inherits; stays the caller's).
 * uid/gid: switch to them in the child when uid != (uid_t)-1. The child dies with its parent (PR_SET_PDEATHSIG).
 * ERROR_IO when a process cannot be started. The configuration is sent over the control socket, not in argv.
 */
struct keyholder_start_options {
    const struct secret *pin;
    uid_t uid;
    gid_t gid;
    int standard_output; /* descriptor for LIST output; -1: /dev/null */
};
MUST_USE result keyholder_start(const struct keyholder_config *config, const struct keyholder_start_options *options,
                                struct keyholder_process *ret, struct error *err);

/* Give the keyholder one more worker: *ret_fd is the worker's end for keyholder_client_new(), owned by the caller. */
MUST_USE result keyholder_link(const struct keyholder_process *process, int *ret_fd, struct error *err);

/* As keyholder_link(), for a socket pair made elsewhere: passes `fd` (the keyholder's end, stays the caller's). */
MUST_USE result keyholder_pass_link(const struct keyholder_process *process, int fd, struct error *err);

/* What a person wants of a token, and with it of all identities of its keyholder. */
enum keyholder_order {
    KEYHOLDER_ORDER_NONE,
    KEYHOLDER_ORDER_CLEAR, /* allow (one more) login, and look at the token at once */
    KEYHOLDER_ORDER_LOCK   /* log out, and no login before CLEAR */
};

/*
 * Give an order. KEYHOLDER_EVENT_DONE names the number when it and a look at the token are over; of several orders
 * that are waiting only the last is carried out. ERROR_IO: the keyholder has ended or does not read.
 */
MUST_USE result keyholder_give_order(const struct keyholder_process *process, enum keyholder_order order,
                                     uint64_t number, struct error *err);

/* What a keyholder reports on its control socket. */
enum keyholder_event_kind {
    KEYHOLDER_EVENT_STATE, /* token state changed; also the first report after start */
    KEYHOLDER_EVENT_HUNG,  /* a signature exceeded sign-timeout: kill and restart */
    KEYHOLDER_EVENT_GIVEN, /* a person has given the PIN: what was locked is not any more, env: and fd: are replaced */
    KEYHOLDER_EVENT_WAITING, /* for a person, who is told so by `text`; "": not any more */
    KEYHOLDER_EVENT_DONE,    /* an order, and all before it; `category` and `text` say whether it failed */
    KEYHOLDER_EVENT_GONE     /* the socket ended */
};
struct keyholder_event {
    enum keyholder_event_kind kind;
    int state;                    /* enum token_state of pkcs11/token.h */
    enum error_category category; /* of `text`; ERROR_NONE when ready */
    uint64_t number;              /* DONE */
    char identity[64];
    char text[ERROR_TEXT_MAX];
};

/* Take the next report; false when there is none now. Never blocks. */
MUST_USE bool keyholder_next_event(const struct keyholder_process *process, struct keyholder_event *ret);

#endif

/*
 * A client's connection between its handshake and its first use: what the server does meanwhile is noticed, nothing it
 * has sent is lost, and its chain can be judged again. Loop thread only.
 */
#ifndef TOKENTLS_TLS_WAITING_H
#define TOKENTLS_TLS_WAITING_H

#include "base/error.h"
#include "tls/connection.h"

/*
 * Bytes of TLS messages (tickets, key updates) that a waiting connection takes; a server that goes on and on without
 * anybody having asked for anything is sent away.
 */
#define WAITING_CONTROL_MAX (64 * 1024)

enum waiting_state {
    WAITING_QUIET,   /* nothing, or nothing for the application */
    WAITING_SPOKEN,  /* application data is there, at most a record of it outside the kernel: the stream gives it */
    WAITING_CLOSED,  /* the server has ended the connection, in order or by cutting it off */
    WAITING_REFUSED, /* the server has refused us with an alert */
    WAITING_BROKEN   /* neither: what came is no TLS, too much of it, or the network failed */
};

/*
 * Call first, when the handshake has succeeded and its info was used: releases what only a connection that has just
 * been made needs, the verdict's texts (16 KiB). The path stays.
 */
void waiting_begin(struct connection *connection);

/*
 * Take what has come. To be called when the socket is readable, and before the connection is used. Once the server has
 * spoken, only its end is looked for, and the socket stays readable: wait for that no more. Except for QUIET and
 * SPOKEN the connection is of no use any more, and *err says why.
 */
enum waiting_state waiting_look(struct connection *connection, struct error *err);

/*
 * The server has taken us for sure: the protocol leaves no doubt (TLS 1.2, resumption, no certificate was asked for),
 * or it has gone on after the handshake.
 */
bool waiting_is_proven(const struct connection *connection);

/*
 * Judge the server's chain with the trust, CRLs and time of now. ERROR_NONE when it passes; ERROR_VERIFY with the
 * verdict's reason; ERROR_INTERNAL.
 */
MUST_USE result waiting_judge(struct connection *connection, struct error *err);

/* The socket to watch; stays the connection's. */
int waiting_fd(const struct connection *connection);

#endif

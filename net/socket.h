/* Settings that every connection's socket gets, whether it was accepted or connected. */
#ifndef TOKENTLS_NET_SOCKET_H
#define TOKENTLS_NET_SOCKET_H

/*
 * TCP: no Nagle delay, and keepalive probes that find a dead peer within two minutes, so that an idle tunnel does not
 * stay open for ever. Other sockets are left alone. Failures do not matter and are not reported. Any thread.
 */
void socket_tune(int fd);

/* Make the coming close() abort a TCP connection (RST instead of FIN). Other sockets are left alone. Any thread. */
void socket_abort_on_close(int fd);

#endif

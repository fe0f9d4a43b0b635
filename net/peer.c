#include "net/peer.h"

#include "net/address.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STATE_LISTEN 10 /* enum in net/tcp_states.h of the kernel; user space has it in netinet/tcp.h as TCP_LISTEN */
#define ANSWER_MAX 8192

/* Of this thread. Making one takes longer than asking, and an answer has come when a question has been sent. */
static _Thread_local int netlink_fd = -1;
static _Thread_local uint32_t netlink_asked;

struct question {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

static result credentials_of_unix(int fd, struct peer_credentials *ret, struct error *err)
{
    struct ucred got;
    socklen_t length = sizeof(got);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &got, &length) != 0)
        return error_set_errno(err, errno, "cannot tell the peer's user");
    /* The kernel has no credentials for a pair that was never connected: pid 0, uid and gid -1. */
    if (got.uid == (uid_t)-1)
        return error_set(err, ERROR_VERIFY, "the peer's user is unknown");
    *ret = (struct peer_credentials){.uid = got.uid, .gid = got.gid, .pid = got.pid};
    return ERROR_NONE;
}

/* IPv4 as ::ffff:a.b.c.d, so that the two spellings of one address compare equal. */
static void to_v6(const struct address_socket *address, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (address->any.sa_family == AF_INET6) {
        memcpy(out, &address->in6.sin6_addr, 16);
        return;
    }
    memcpy(out, mapped, 12);
    memcpy(out + 12, &address->in.sin_addr, 4);
}

static bool is_v4(const uint8_t address[16])
{
    return IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)address);
}

static void put_diag(__be32 out[4], const uint8_t address[16])
{
    memset(out, 0, 16);
    if (is_v4(address))
        memcpy(out, address + 12, 4);
    else
        memcpy(out, address, 16);
}

/* As seen from the other end: its local address is our peer. */
static void make_question(const struct address_socket *peer, const struct address_socket *own, struct question *ret)
{
    uint8_t there[16], here[16];

    to_v6(peer, there);
    to_v6(own, here);
    *ret = (struct question){
        .header = {.nlmsg_len = sizeof(*ret), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .body = {.sdiag_family = is_v4(there) ? AF_INET : AF_INET6,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = ~0U,
                 .id = {.idiag_sport = htons(address_socket_port(peer)),
                        .idiag_dport = htons(address_socket_port(own)),
                        .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
    };
    put_diag(ret->body.id.idiag_src, there);
    put_diag(ret->body.id.idiag_dst, here);
    if (peer->any.sa_family == AF_INET6)
        ret->body.id.idiag_if = peer->in6.sin6_scope_id;
}

static void from_diag(uint8_t family, const __be32 in[4], uint8_t out[16])
{
    struct address_socket address = {.any.sa_family = family};

    if (family == AF_INET)
        memcpy(&address.in.sin_addr, in, 4);
    else
        memcpy(&address.in6.sin6_addr, in, 16);
    to_v6(&address, out);
}

/*
 * The kernel falls back to a listening socket of that port when it does not find the connection, so the answer is
 * compared with the question. A socket without inode has no owner any more, and idiag_uid is then 0: not root.
 */
static bool answers(const struct inet_diag_msg *answer, const struct address_socket *peer,
                    const struct address_socket *own)
{
    uint8_t there[16], here[16], got_there[16], got_here[16];

    if (answer->idiag_family != AF_INET && answer->idiag_family != AF_INET6)
        return false;
    to_v6(peer, there);
    to_v6(own, here);
    from_diag(answer->idiag_family, answer->id.idiag_src, got_there);
    from_diag(answer->idiag_family, answer->id.idiag_dst, got_here);
    return memcmp(there, got_there, 16) == 0 && memcmp(here, got_here, 16) == 0 &&
           ntohs(answer->id.idiag_sport) == address_socket_port(peer) &&
           ntohs(answer->id.idiag_dport) == address_socket_port(own) && answer->idiag_state != STATE_LISTEN &&
           answer->idiag_inode != 0;
}

static result not_here(struct error *err, const struct address_socket *peer)
{
    char text[ADDRESS_TEXT_MAX];

    return error_set(err, ERROR_VERIFY, "no process of this machine owns the connection from %s any more",
                     address_socket_text(peer, text, sizeof(text)));
}

static result read_answer(const struct question *asked, const struct address_socket *peer,
                          const struct address_socket *own, struct peer_credentials *ret, struct error *err)
{
    union {
        struct nlmsghdr header;
        uint8_t bytes[ANSWER_MAX];
    } answer;
    ssize_t n = recv(netlink_fd, &answer, sizeof(answer), MSG_DONTWAIT);
    const struct inet_diag_msg *found = (const void *)(answer.bytes + NLMSG_HDRLEN);

    if (n < 0)
        return error_set_errno(err, errno, "no answer from inet_diag");
    if (!NLMSG_OK(&answer.header, (size_t)n) || answer.header.nlmsg_seq != asked->header.nlmsg_seq)
        return error_set(err, ERROR_IO, "inet_diag sent a broken answer, or one to another question");
    if (answer.header.nlmsg_type == NLMSG_ERROR && answer.header.nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
        int errnum = -((const struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;

        return errnum == ENOENT ? not_here(err, peer)
                                : error_set_errno(err, errnum, "inet_diag cannot tell the peer's user");
    }
    if (answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*found)))
        return error_set(err, ERROR_IO, "inet_diag sent an unexpected answer");
    if (!answers(found, peer, own))
        return not_here(err, peer);
    *ret = (struct peer_credentials){.uid = found->idiag_uid, .gid = (gid_t)-1, .pid = 0};
    return ERROR_NONE;
}

static result ask(struct question *question, struct error *err)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

    if (netlink_fd < 0)
        netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    question->header.nlmsg_seq = ++netlink_asked;
    if (netlink_fd < 0 || sendto(netlink_fd, question, sizeof(*question), MSG_DONTWAIT,
                                 (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        return error_set_errno(err, errno, "cannot ask inet_diag for the peer's user");
    return ERROR_NONE;
}

static result credentials_of_tcp(int fd, const struct address_socket *peer, struct peer_credentials *ret,
                                 struct error *err)
{
    struct address_socket own;
    struct question question;
    result failure = address_of_socket(fd, &own, err);

    if (failure != ERROR_NONE)
        return failure;
    make_question(peer, &own, &question);
    failure = ask(&question, err);
    if (failure == ERROR_NONE)
        failure = read_answer(&question, peer, &own, ret, err);
    /* What may still come belongs to nobody: the next question is asked on another socket. */
    if (failure == ERROR_IO && netlink_fd >= 0) {
        (void)close(netlink_fd);
        netlink_fd = -1;
    }
    return failure;
}

result peer_credentials(int fd, struct peer_credentials *ret, struct error *err)
{
    struct address_socket peer;
    result failure = address_of_peer(fd, &peer, err);

    if (failure != ERROR_NONE)
        return failure;
    if (peer.any.sa_family == AF_UNIX)
        return credentials_of_unix(fd, ret, err);
    if (peer.any.sa_family == AF_INET || peer.any.sa_family == AF_INET6)
        return credentials_of_tcp(fd, &peer, ret, err);
    return error_set(err, ERROR_VERIFY, "the peer's user is unknown");
}

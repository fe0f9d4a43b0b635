#!/usr/bin/env python3
# labels: smoke
"""The main job: plaintext into the agent, TLS with a key on the token, plaintext out of the gateway to the backend."""

import socket
import subprocess
import threading

from harness import EchoServer, HttpServer, check, connect, exchange, host_port, main, read_all, scenario


def through_both(t, backend, **tunnel):
    """A gateway before `backend` and an agent before the gateway; returns them with the tunnel's address."""
    gateway = t.gateway(t.front("front", backend))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client", **tunnel))
    return gateway, agent, agent.address("tunnel")


@scenario
def echo_comes_back_whole(t):
    echo = EchoServer(t)
    gateway, agent, address = through_both(t, echo.text)
    check(exchange(address, b"hello\n") == b"hello\n", "not what was sent")
    data = bytes(range(256)) * 16384
    check(exchange(address, data) == data, "4 MiB did not come back as they were sent")
    agent.wait_line(r"tunnel=tunnel\b.*TLSv1\.3")
    gateway.wait_line(r"CN=client\b")


@scenario
def many_connections_at_once(t):
    echo = EchoServer(t)
    _, _, address = through_both(t, echo.text)
    answers = [None] * 40

    def one(number):
        text = f"connection {number}\n".encode() * 200
        answers[number] = exchange(address, text) == text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(answers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(all(answers), f"{answers.count(True)} of {len(answers)} came back")


@scenario
def half_close_goes_both_ways(t):
    """The backend answers only after it has seen our end: the end must reach it while the way back stays open."""
    class Late(EchoServer):
        def serve(self, client, number):
            data = read_all(client)
            self.keep(number, data)
            client.sendall(b"got %d bytes" % len(data))

    _, _, address = through_both(t, Late(t).text)
    check(exchange(address, b"x" * 100000) == b"got 100000 bytes", "the end of our direction did not arrive")


@scenario
def the_backend_may_end_first(t):
    class First(EchoServer):
        def serve(self, client, number):
            client.sendall(b"bye")
            client.shutdown(socket.SHUT_WR)
            self.keep(number, read_all(client))

    backend = First(t)
    _, _, address = through_both(t, backend.text)
    with connect(address) as client:
        check(read_all(client) == b"bye", "the backend's end did not arrive")
        client.sendall(b"still here")
        client.shutdown(socket.SHUT_WR)
        backend.wait(lambda: backend.received[-1] == b"still here", "what was sent after its end")


@scenario
def curl_reaches_an_http_backend(t):
    _, _, address = through_both(t, HttpServer(t).text)
    for arguments, expected in ((["/one"], "hello /one\n"), (["/two", "--data", "body"], "body")):
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", "20",
                               f"http://{host_port(address)}{arguments[0]}", *arguments[1:]], capture_output=True,
                              text=True, check=False)
        check(done.stdout == expected, f"curl: {done}")


@scenario
def unix_sockets_on_both_ends(t):
    echo = EchoServer(t, t.folder / "backend.sock")
    path = t.folder / "agent.sock"
    _, _, address = through_both(t, echo.text, listen=f"unix:{path}")
    check(address == str(path), f"listens on {address}")
    check(exchange(address, b"hello\n") == b"hello\n", "not what was sent")


@scenario
def the_gateways_key_may_be_on_a_token(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.new_token().identity("server"),
                        t.front("front", echo.text, identity="server", certificate=None, key=None))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", host_port(gateway.address("front")), identity="client"))
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "not what was sent")


@scenario
def several_tunnels_and_identities_in_one_agent(t):
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    there = host_port(gateway.address("front"))
    names = ["client-p256", "client-rsa2048", "client-ed25519"]
    agent = t.agent(*[t.token.identity(name) for name in names],
                    *[t.tunnel(f"to-{name}", there, identity=name) for name in names])
    for name in names:
        mark = gateway.mark()
        check(exchange(agent.address(f"to-{name}"), name.encode()) == name.encode(), f"{name}: not what was sent")
        gateway.wait_line(rf"CN={name}\b", after=mark)


@scenario
def an_upstream_that_is_down_is_passed_over(t):
    echo = EchoServer(t)
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    down = f"127.0.0.1:{closed.getsockname()[1]}"
    gateway = t.gateway(t.front("front", echo.text))
    agent = t.agent(t.token.identity("client"),
                    t.tunnel("tunnel", [down, host_port(gateway.address("front"))], identity="client"))
    check(exchange(agent.address("tunnel"), b"hello\n") == b"hello\n", "not what was sent")
    closed.close()


if __name__ == "__main__":
    main()

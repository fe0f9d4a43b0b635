#!/usr/bin/env python3
"""tokentls connect by itself: what it carries, how it ends, and every exit status."""
# labels: smoke
# timeout: 240

import os
import re
import socket
import ssl
import struct
import subprocess
import threading

from harness import EchoServer, MODULE, OpensslServer, check, deadline, host_port, main, read_all, scenario
from harness.peers import Server
from harness.terminal import Terminal

MUCH = bytes(range(256)) * 16384  # 4 MiB


class TlsServer(Server):
    """A TLS server in this process; `behave` is called with the TLS socket."""

    def __init__(self, t, behave, alpn=None, version=None):
        self.behave = behave
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(t.pki / "server.pem", t.pki / "server.key")
        if alpn:
            self.context.set_alpn_protocols(alpn)
        if version:
            self.context.maximum_version = version
        super().__init__(t)

    def serve(self, client, number):
        with self.context.wrap_socket(client, server_side=True, suppress_ragged_eofs=False) as tls:
            self.behave(self, tls, number)

    def read_to_end(self, tls, number):
        while True:
            data = tls.recv(65536)
            if not data:
                return
            self.keep(number, data)


def echo(server, tls, number):
    """Until the client ends; then end in order. A sender of its own, or both sides would wait for each other."""
    while True:
        data = tls.recv(65536)
        if not data:
            break
        server.keep(number, data)
        tls.sendall(data)
    tls.unwrap()


# AddressSanitizer remarks once that it cannot follow OpenSSL onto the stack of a job.
REMARK = re.compile(r"^==\d+==WARNING: ASan is ignoring requested __asan_handle_no_return.*\n"
                    r"False positive error reports may follow\nFor details see .*\n", re.MULTILINE)


def status(done, expected, *texts):
    """The exit status, and texts that standard error must hold."""
    said = REMARK.sub("", done.stderr.decode(errors="replace"))
    check(done.returncode == expected, f"status {done.returncode}, not {expected}: {said}")
    for text in texts:
        check(re.search(text, said), f"/{text}/ is not in: {said}")
    return said


def one_way(t, server, *more, name="gateway.example"):
    """Arguments without an identity."""
    return ["tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", name, *more,
            host_port(server.address)]


def phases(said):
    return re.findall(r"^== (.*)$", said, re.MULTILINE)


@scenario
def a_line_goes_through_with_a_key_on_the_token(t):
    server = OpensslServer(t)
    for version in ("1.2", "1.3"):
        done = t.connect(server.address, "--tls", version, data=b"hello\n")
        said = status(done, 0)
        check(done.stdout == b"olleh\n", f"TLS {version}: {done.stdout}")
        check(said == "", f"a success says nothing: {said}")


@scenario
def much_goes_through_files(t):
    server = TlsServer(t, echo)
    source, sink = t.folder / "in", t.folder / "out"
    source.write_bytes(MUCH)
    with open(source, "rb") as stdin, open(sink, "wb") as stdout:
        words = [str(word) for word in (t.program("tokentls"), *one_way(t, server)[1:])]
        child = subprocess.run(words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=deadline(60),
                               check=False)
    status(child, 0)
    check(sink.read_bytes() == MUCH, "the file that came back is another")


@scenario
def a_socket_may_be_both_ends_as_for_a_proxy_command(t):
    server = TlsServer(t, echo)
    ours, theirs = socket.socketpair()
    ours.settimeout(deadline(60))
    words = [str(word) for word in (t.program("tokentls"), *one_way(t, server)[1:])]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as child:
        theirs.close()
        sender = threading.Thread(target=lambda: (ours.sendall(MUCH), ours.shutdown(socket.SHUT_WR)), daemon=True)
        sender.start()
        check(read_all(ours) == MUCH, "what came back is something else")
        check(child.wait(deadline()) == 0, "not 0")
    ours.close()


@scenario
def the_end_of_input_ends_one_direction_only(t):
    def answer_afterwards(server, tls, number):
        server.read_to_end(tls, number)
        tls.sendall(b"got %d" % len(server.received[number]))
        tls.unwrap()

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server = TlsServer(t, answer_afterwards, version=version)
        done = t.run(*one_way(t, server), input=b"x" * 100000)
        status(done, 0)
        check(done.stdout == b"got 100000", f"{version}: {done.stdout}")


@scenario
def it_ends_when_the_server_ends(t):
    def greet(_server, tls, _number):
        tls.sendall(b"goodbye")
        tls.unwrap()

    server = TlsServer(t, greet)
    child = t.start([t.program("tokentls"), *one_way(t, server)[1:]], stdin=subprocess.PIPE)
    check(child.wait() == 0, child.tail())
    check(REMARK.sub("", child.text() + "\n") == "goodbye\n", child.text())
    child.child.stdin.close()


@scenario
def a_reader_that_leaves_ends_it(t):
    def pour(_server, tls, _number):
        try:
            while True:
                tls.sendall(bytes(16384))
        except (OSError, ssl.SSLError):
            pass

    server = TlsServer(t, pour)
    reader, writer = os.pipe()
    words = [str(word) for word in (t.program("tokentls"), *one_way(t, server)[1:])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE) as child:
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        said = child.stderr.read()
        check(child.wait(deadline()) == 0, said)


@scenario
def truncation_is_5_and_what_came_is_delivered(t):
    def break_off(server, tls, number):
        server.read_to_end(tls, number)  # or the kernel would send a reset
        tls.sendall(b"half of it")
        socket.socket(fileno=tls.detach()).close()

    done = t.run(*one_way(t, TlsServer(t, break_off)))
    status(done, 5, "truncated")
    check(done.stdout == b"half of it", str(done.stdout))


@scenario
def a_reset_is_5(t):
    def hang_up(_server, tls, _number):
        tls.sendall(b"x")
        plain = socket.socket(fileno=tls.detach())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()

    status(t.run(*one_way(t, TlsServer(t, hang_up))), 5)


@scenario
def network_failures_are_5(t):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        base = ["tokentls", "connect", "--trust", t.pki / "root.pem"]
        status(t.run(*base, f"127.0.0.1:{port}"), 5, "refused")
    status(t.run(*base, "--timeout", "2s", "no-such-host.invalid:1"), 5, "no-such-host.invalid")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        status(t.run(*base, "--timeout", "500ms", host_port(silent.getsockname())), 5)
    plain = EchoServer(t)
    status(t.run(*base, "--explain", host_port(plain.address)), 5, "what to do", "TLS port")


@scenario
def usage_errors_are_2(t):
    server = OpensslServer(t, mutual=False)
    status(t.run("tokentls", "connect"), 2, "HOST:PORT")
    status(t.run("tokentls", "conect"), 2, "did you mean connect")
    status(t.run(*one_way(t, server, "--idenity", "x")), 2, "--identity")
    status(t.run("tokentls", "connect", "nowhere"), 2, "nowhere")
    status(t.run("tokentls", "connect", "unix:/nowhere"), 2, "HOST:PORT")
    status(t.run(*one_way(t, server, "--cert", "x.pem")), 2, "without --identity")
    status(t.run(*one_way(t, server, "--one-way", "--identity", "pkcs11:token=demo")), 2, "contradict")
    status(t.run(*one_way(t, server, "--identity", "pkcs11:tokn=demo")), 2, "tokn")
    status(t.run(*one_way(t, server, "--identity", "demo")), 2, "pkcs11:")
    status(t.run(*one_way(t, server, "--crl", t.folder / "none.crl")), 2, "none.crl")
    status(t.run(*one_way(t, server, "--crl", t.pki / "root.pem")), 2, "root.pem")
    status(t.run("tokentls", "connect", "--trust", t.folder / "none.pem", server.text), 2, "none.pem")
    status(t.run(*one_way(t, server, "--alpn", ",")), 2, "--alpn")
    status(t.run(*one_way(t, server, "--timeout", "5")), 2, "--timeout")
    check(b"example" in t.run("tokentls", "connect", "--help").stdout, "--help shows no example")


@scenario
def refusing_the_server_is_1(t):
    server = OpensslServer(t, mutual=False)
    status(t.run(*one_way(t, server, name="other.example")), 1, "not for other.example")
    status(t.run(*one_way(t, server, "--revocation", "required")), 1, "no CRL")
    revoking = [word for path in t.crls(intermediate="intermediate-revokes-server.crl") for word in ("--crl", path)]
    status(t.run(*one_way(t, server, *revoking)), 1, "revoked")
    expired = [word for path in t.crls(intermediate="intermediate-expired.crl") for word in ("--crl", path)]
    status(t.run(*one_way(t, server, *expired)), 1, "CRL")
    status(t.run("tokentls", "connect", "--trust", t.pki / "other-ca.pem", "--server-name", "gateway.example",
                 server.text), 1, "Root CA")


@scenario
def being_refused_is_1(t):
    server = OpensslServer(t)
    for version in ("1.2", "1.3"):
        done = t.run(*one_way(t, server, "--tls", version, "--explain"), input=b"hello\n")
        status(done, 1, "alert", "--identity")
        check(done.stdout == b"", str(done.stdout))
    for label in ("expired", "unknown-ca"):
        for version in ("1.2", "1.3"):
            done = t.connect(server.address, "--tls", version, label=label)
            status(done, 1)


@scenario
def one_way_can_be_insisted_on(t):
    asks = OpensslServer(t, "-verify", "1", mutual=False)
    done = t.run(*one_way(t, asks), input=b"hello\n")
    status(done, 0, "asks for a client certificate", "one-way")
    check(done.stdout == b"olleh\n", str(done.stdout))
    status(t.run(*one_way(t, asks, "--one-way"), input=b"hello\n"), 1)
    status(t.run(*one_way(t, OpensslServer(t, mutual=False), "--one-way"), input=b"hello\n"), 0)


@scenario
def alpn_is_offered(t):
    chosen = []

    def note(_server, tls, _number):
        chosen.append(tls.selected_alpn_protocol())
        tls.unwrap()

    server = TlsServer(t, note, alpn=["b", "c"])
    status(t.run(*one_way(t, server, "--alpn", "a,b")), 0)
    check(chosen == ["b"], str(chosen))


@scenario
def absent_and_ambiguous_tokens_and_keys_are_3(t):
    server = OpensslServer(t)
    base = one_way(t, server)[:-1] + ["--module", MODULE, "--pin-source", f"file:{t.token.pin_file}"]
    for uri, texts in (("pkcs11:token=nothere;object=client", ["demo"]),
                       ("pkcs11:token=demo;object=nothere", [";type=private"]),
                       ("pkcs11:token=demo", ["object="])):
        done = t.run(*base, "--identity", uri, server.text, env=t.token.environment)
        status(done, 3, *texts)
    status(t.run(*base[:-4], "--module", "/nowhere.so", "--identity", t.token.uri("client"), server.text), 3, "nowhere")
    check("ACCEPT" in server.process.text() and "CONNECTION" not in server.process.text(),
          "the server was bothered before the token was ready")


def faulty_args(t, token, server, *more, pin_file=None):
    """Arguments with an identity on a token behind the module that injects faults."""
    pin = ["--pin-source", f"file:{pin_file or token.pin_file}"] if pin_file is not False else []
    return [*one_way(t, server)[:-1], "--module", token.module, "--identity", token.uri("client"), *pin, *more,
            server.text]


@scenario
def a_wrong_pin_is_4_and_tried_once(t):
    server = OpensslServer(t)
    token = t.faulty_token()
    wrong = t.file("wrong-pin", "999999\n")
    for attempt in range(3):
        said = status(t.run(*faulty_args(t, token, server, pin_file=wrong), env=token.environment), 4)
        check("999999" not in said, f"the PIN is in the message: {said}")
        logins = token.faults.count("C_Login")
        check(logins == 1, f"{logins} logins after start {attempt + 1}")


@scenario
def without_anybody_to_give_a_pin_it_is_4_without_a_login(t):
    server = OpensslServer(t)
    token = t.faulty_token()
    words = [str(word) for word in (t.program("tokentls"), *faulty_args(t, token, server, pin_file=False)[1:])]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline(60), check=False,
                          start_new_session=True,
                          env={**os.environ, "XDG_STATE_HOME": str(t.state()), **token.environment})
    status(done, 4, "PIN")
    check(token.faults.count("C_Initialize") > 0, "the module was not used at all")
    check(token.faults.count("C_Login") == 0, "it logged in")


@scenario
def the_uri_names_the_pin_source(t):
    server = OpensslServer(t)
    uri = t.token.uri("client")
    for source in (f"file:{t.token.pin_file}", str(t.token.pin_file)):
        done = t.run(*one_way(t, server)[:-1], "--identity", f"{uri}?pin-source={source}", "--module", MODULE,
                     server.text, input=b"hello\n", env=t.token.environment)
        status(done, 0)
    done = t.run(*one_way(t, server)[:-1], "--identity", f"{uri}?pin-source=|cat", "--module", MODULE, server.text,
                 env=t.token.environment)
    status(done, 2, "command")


@scenario
def the_pin_comes_from_the_environment_or_a_descriptor(t):
    server = OpensslServer(t)
    base = [*one_way(t, server)[:-1], "--identity", t.token.uri("client"), "--module", MODULE]
    env = {**t.token.environment, "THE_PIN": t.token.pin}
    status(t.run(*base, "--pin-source", "env:THE_PIN", server.text, input=b"hello\n", env=env), 0)
    status(t.run(*base, "--pin-source", "env:NO_PIN", server.text, env=env), 4, "NO_PIN")
    words = [str(word) for word in (t.program("tokentls"), *base[1:])]
    with open(t.token.pin_file, "rb") as pin:
        done = subprocess.run([*words, "--pin-source", f"fd:{pin.fileno()}", server.text], input=b"hello\n",
                              capture_output=True, pass_fds=[pin.fileno()], timeout=deadline(60), check=False,
                              env={**os.environ, "XDG_STATE_HOME": str(t.state()), **t.token.environment})
    status(done, 0)


def type_on_terminal(t, words, env, answer):
    """Run `words` with a controlling terminal and type `answer` at the prompt; (status, terminal, stdout)."""
    reader, writer = os.pipe()
    terminal = Terminal(t, words, env, stdout=writer)
    os.close(writer)
    terminal.expect("PIN")
    terminal.expect(": ")
    terminal.type(answer + "\n")
    code = terminal.end()
    with os.fdopen(reader, "rb") as out:
        return code, terminal.text(), out.read()


@scenario
def a_person_is_asked_on_the_terminal(t):
    def greet(_server, tls, _number):
        tls.sendall(b"welcome")
        tls.unwrap()

    server = TlsServer(t, greet)
    words = [str(word) for word in (t.program("tokentls"), *one_way(t, server)[1:-1], "--identity",
                                    t.token.uri("client"), "--module", MODULE, server.text)]
    code, said, output = type_on_terminal(t, words, t.token.environment, t.token.pin)
    check(code == 0 and output == b"welcome", f"status {code}: {said}")
    check(t.token.pin not in said, "the PIN was echoed")


@scenario
def a_token_that_crashes_is_3(t):
    server = OpensslServer(t)
    token = t.faulty_token()
    words = faulty_args(t, token, server)
    for fault in ("crash", "crash_in_init", "sign__device_error", "sign__wrong_signature", "slots__token_absent"):
        token.faults.set(fault)
        done = t.run(*words, env=token.environment)
        check(done.returncode == 3, f"{fault}: status {done.returncode}, not 3: {done.stderr.decode()}")
    token.faults.clear()
    status(t.run(*words, input=b"hello\n", env=token.environment), 0)


@scenario
def explain_tells_the_phases_in_order(t):
    server = OpensslServer(t)
    mutual = ["token", "connect", "hello", "chosen", "server certificate", "request", "choice", "signature",
              "finished", "end"]
    for version in ("1.2", "1.3"):
        done = t.connect(server.address, "--tls", version, "--explain", data=b"x\n")
        said = status(done, 0, "object=client", r"CN=gateway\.example", "name: ok", "ms")
        told = phases(said)
        check([phase for phase in told if phase in mutual] == mutual, f"TLS {version}: {told}\n{said}")
        check(t.token.pin not in said, "the PIN is in the narration")
    done = t.run(*one_way(t, server, "--explain", name="other.example"))
    told = phases(status(done, 1))
    check(told[-1] == "what to do", str(told))


@scenario
def a_token_that_is_slow_does_not_outlive_the_command(t):
    server = OpensslServer(t)
    token = t.faulty_token()
    token.faults.set("sign__hang")
    status(t.run(*faulty_args(t, token, server, "--timeout", "1s"), env=token.environment), 5)
    check(token.faults.count("C_Sign") >= 1, "nothing was signed")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""enroll --cmp against the mock CMP server of the openssl tool: first certificate, renewal, PKCS#10, and refusals."""
# labels: smoke
# timeout: 240

import http.client
import http.server
import re
import threading

from harness import check, deadline, main, scenario
from harness.blank import Blank, issue


class CmpFront:
    """
    An HTTP server that has the PKI sign the request which `enroll --csr` has written by the time of the first message,
    starts `openssl cmp` as a mock server that issues this certificate, and passes all messages on to it.
    """

    def __init__(self, t, request, *options, certificate=None, serial=None):
        self.t, self.request, self.options, self.certificate, self.serial = t, request, options, certificate, serial
        self.mock = None
        self.messages = 0
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # pylint: disable=invalid-name
                status, body = front.pass_on(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.send_header("Content-Type", "application/pkixcmp")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *args):  # pylint: disable=redefined-builtin
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/pkix/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        t.stack.callback(self.server.server_close)
        t.stack.callback(self.server.shutdown)

    def start(self):
        chain = self.certificate or issue(self.t, self.request, f"cmp-{self.t.counter}", self.serial)
        mock = self.t.start(["openssl", "cmp", "-config", "", "-port", "0", "-rsp_cert", chain, "-rsp_extracerts",
                             self.t.pki / "intermediate.pem", *self.options])
        port = int(mock.wait_line(r"^ACCEPT .*:(\d+) PID").group(1))
        # one connection for all messages: the mock server forgets the transaction with it
        self.mock = http.client.HTTPConnection("127.0.0.1", port, timeout=deadline())
        self.t.stack.callback(self.mock.close)

    def pass_on(self, path, body):
        if self.mock is None:
            self.start()
        self.messages += 1
        self.mock.request("POST", path, body, {"Content-Type": "application/pkixcmp", "Connection": "keep-alive"})
        answer = self.mock.getresponse()
        return answer.status, answer.read()


def secret(t, text="a shared secret"):
    return t.file("secret", text + "\n")


def enrol(blank, front, request, *more, **options):
    return blank.run("enroll", "--pin-source", f"file:{blank.pin}", "--csr", request, "--cmp", front.url, *more, **options)


def first(blank, label="client", algorithm="p256"):
    return ["--token", "pkcs11:token=new", "--algorithm", algorithm, "--label", label, "--subject", f"CN={label},O=Example",
            "--dns", "client.example"]


def by_secret(t):
    return ["--cmp-reference", "ref-7", "--cmp-secret-source", f"file:{secret(t)}"]


@scenario
def a_reference_and_a_secret_get_the_first_certificate(t):
    blank = Blank(t)
    blank.initialise()
    for command, label, algorithm in (("ir", "first", "p256"), ("p10cr", "second", "rsa2048"), ("p10cr", "third", "ed25519"),
                                      ("ir", "fourth", "p384")):
        request = blank.folder / f"{label}.csr"
        front = CmpFront(t, request, "-srv_ref", "ref-7", "-srv_secret", "pass:a shared secret")
        text = enrol(blank, front, request, "--cmp-command", command, *first(blank, label, algorithm), *by_secret(t))
        check(re.search(rf"^certificate +CN={label},O=Example$", text, re.M), text)
        check(front.messages == 2, f"{command}: {front.messages} messages, not a request and its confirmation")
    token = blank.listing()
    check({item["subject"] for item in token["identities"]} >= {"CN=first,O=Example", "CN=third,O=Example"}, str(token))
    check(len(token["certificates"]) == 5, "four certificates and their issuer once")


@scenario
def the_old_key_gets_the_next_certificate(t):
    blank = Blank(t)
    blank.initialise()
    # the mock server takes a kur only for what it issues itself: same issuer, same serial number
    blank.store(issue(t, blank.enrol("--dns", "client.example", algorithm="rsa2048", label="client"), "first", 4711))
    server = ["-srv_cert", t.pki / "server-cert.pem", "-srv_key", t.pki / "server.key", "-srv_untrusted",
              t.pki / "intermediate.pem", "-srv_trusted", t.pki / "ca-chain.pem"]
    for command in ("kur", "p10cr"):
        request = blank.folder / f"{command}.csr"
        front = CmpFront(t, request, *server, serial=4711)
        text = enrol(blank, front, request, "--renew", "pkcs11:token=new;object=client", "--cmp-command", command,
                     "--cmp-trust", t.pki / "ca-chain.pem")
        check(re.search(r"^certificate +CN=client,", text, re.M), text)
        check(front.messages == 2, f"{command}: {front.messages} messages")
    token = blank.listing()
    check({key["label"] for key in token["keys"]} == {"client", "client-2", "client-3"}, str(token["keys"]))
    check(len(token["identities"]) == 3, str(token["identities"]))


@scenario
def a_server_that_lets_us_wait_is_asked_again(t):
    blank = Blank(t)
    blank.initialise()
    request = blank.folder / "client.csr"
    front = CmpFront(t, request, "-srv_ref", "ref-7", "-srv_secret", "pass:a shared secret", "-poll_count", "1", "-check_after", "1")
    enrol(blank, front, request, *first(blank), *by_secret(t))
    check(front.messages > 2, f"{front.messages} messages")


def left(blank):
    token = blank.listing()
    return [item["label"] for kind in ("keys", "certificates") for item in token[kind]]


@scenario
def what_the_server_refuses_leaves_nothing(t):
    blank = Blank(t)
    blank.initialise()
    request = blank.folder / "client.csr"
    gone = "the new key pair was removed again"
    good = ["-srv_ref", "ref-7", "-srv_secret", "pass:a shared secret"]
    enrol(blank, CmpFront(t, request, *good, "-pkistatus", "2", "-failure", "1", "-statusstring", "not today"), request,
          *first(blank), *by_secret(t), expected=1, says=f"refuses: .*rejection.*not today.*{gone}")
    check(not left(blank), str(left(blank)))
    # another secret on the other side
    enrol(blank, CmpFront(t, request, "-srv_ref", "ref-7", "-srv_secret", "pass:another"), request, *first(blank),
          *by_secret(t), expected=1, says=gone)
    check(not left(blank), str(left(blank)))
    # a certificate for somebody else's key
    enrol(blank, CmpFront(t, request, *good, certificate=t.pki / "client-cert.pem"), request, *first(blank), *by_secret(t),
          expected=1, says=f"certificate for another key.*{gone}")
    check(not left(blank), str(left(blank)))


@scenario
def a_server_that_nobody_vouches_for_is_refused(t):
    blank = Blank(t)
    blank.initialise()
    blank.store(issue(t, blank.enrol(label="client"), "first"))
    request = blank.folder / "next.csr"
    front = CmpFront(t, request, "-srv_cert", t.pki / "server-cert.pem", "-srv_key", t.pki / "server.key",
                     "-srv_trusted", t.pki / "ca-chain.pem")
    renew = ["--renew", "pkcs11:token=new;object=client"]
    enrol(blank, front, request, *renew, "--cmp-trust", t.pki / "other-ca.pem", expected=1, says="removed again")
    check(sorted(left(blank)) == ["client", "client", "intermediate"] or len(left(blank)) == 3, str(left(blank)))
    enrol(blank, front, request, *renew, expected=2, says="--cmp-trust FILE is missing")


@scenario
def no_server_is_5_and_bad_options_2(t):
    blank = Blank(t)
    blank.initialise()
    request = blank.folder / "client.csr"
    front = CmpFront(t, request)
    front.server.shutdown()
    front.server.server_close()
    enrol(blank, front, request, *first(blank), *by_secret(t), expected=5, says="cannot be talked to.*removed again")
    check(not left(blank), str(left(blank)))
    enrol(blank, front, request, *first(blank), "--cmp-reference", "x", expected=2, says="belong together")
    enrol(blank, front, request, *first(blank), "--cmp-command", "kur", *by_secret(t), expected=2, says="--renew URI is missing")
    enrol(blank, front, request, *first(blank), "--cmp-reference", "x", "--cmp-secret-source", "file:/nowhere", expected=2,
          says="--cmp-secret-source.*removed again")
    enrol(blank, front, request, *first(blank, algorithm="ed25519"), *by_secret(t), expected=2, says="p10cr only")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""tokentls probe: servers of three makes in each mode, servers that do odd things, and what is told of each."""
# labels: smoke
# timeout: 240

import json
import re
import socket
import ssl
import subprocess
import threading

from harness import (EchoServer, GnutlsServer, HttpServer, OpensslServer, check, host_port, main, scenario)
from harness.peers import Server
from harness.schema import validate


def probe(t, there, *more, expected=0, says="", env=None):
    """The documented JSON of a probe. The wait is long because it ends with the refusal where there is one."""
    more = more if "--wait" in more else (*more, "--wait", "10s")
    done = t.run("tokentls", "probe", "--json", "--trust", t.pki / "root.pem", "--server-name", "gateway.example",
                 *more, there, env=env)
    error = done.stderr.decode(errors="replace")
    check(done.returncode == expected, f"status {done.returncode}, not {expected}: {error}{done.stdout.decode()}")
    check(re.search(says, error), f"/{says}/ is not in: {error}")
    tree = json.loads(done.stdout)
    validate("probe", tree)
    return tree


def modes(tree):
    """{"TLS 1.3": mode, ...} of the versions that were accepted."""
    return {version["version"]: version["client_certificate"] for version in tree["versions"]
            if version["accepted"] and "client_certificate" in version}


def optional(t):
    return ["-verify", "1", "-CAfile", t.pki / "root.pem"]


@scenario
def openssl_in_each_mode_and_version(t):
    for mode, options, mutual in (("mutual", [], True), ("optional", optional(t), False), ("one-way", [], False)):
        for only, versions in (((), ("TLS 1.3", "TLS 1.2")), (("-tls1_2",), ("TLS 1.2",)),
                               (("-tls1_3",), ("TLS 1.3",))):
            tree = probe(t, OpensslServer(t, *options, *only, mutual=mutual).text, "--expect", mode)
            check(modes(tree) == {version: mode for version in versions}, f"{mode} {only}: {modes(tree)}")
            check(tree["certain"] and tree["met"], f"{mode} {only}: {tree['evidence']}")


@scenario
def gnutls_in_each_mode(t):
    for mode, server in (("mutual", GnutlsServer(t)), ("optional", GnutlsServer(t, mutual=None)),
                         ("one-way", GnutlsServer(t, mutual=False))):
        tree = probe(t, server.text, "--expect", mode, "--wait", "1s" if mode == "optional" else "10s")
        check(set(modes(tree).values()) == {mode}, f"{mode}: {modes(tree)}")


@scenario
def our_gateway_in_each_mode(t):
    backend = EchoServer(t).text
    off = {"client_trust": None, "client_crl": None, "allow_any_valid": None, "revocation": None}
    gateway = t.gateway(t.front("mutual", backend), t.front("optional", backend, client_auth="optional"),
                        t.front("one-way", backend, client_auth="none", **off))
    for mode in ("mutual", "optional", "one-way"):
        tree = probe(t, host_port(gateway.address(mode)), "--expect", mode, "--wait", "1s" if mode == "optional" else "10s")
        check(modes(tree) == {"TLS 1.3": mode, "TLS 1.2": mode}, f"{mode}: {modes(tree)}")
        request = tree["versions"][0]["request"]
        if mode == "one-way":
            check(request is None, str(request))
            continue
        check(any("Root CA" in name for name in request["issuers"]), str(request))
        check("ecdsa_secp256r1_sha256" in request["schemes"], str(request))


@scenario
def an_expectation_that_is_not_met_is_1(t):
    server = OpensslServer(t, mutual=False)
    for wrong in ("mutual", "optional"):
        tree = probe(t, server.text, "--expect", wrong, expected=1, says=f"expected {wrong}, found one-way")
        check(tree["met"] is False, str(tree["met"]))


@scenario
def versions_ciphers_alpn_and_resumption(t):
    server = OpensslServer(t, "-alpn", "http/1.1", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", mutual=False)
    tree = probe(t, server.text, "--all-ciphers")
    newest, older = tree["versions"][:2]
    check(older["ciphers"] == ["ECDHE-ECDSA-AES128-GCM-SHA256"], str(older["ciphers"]))
    check("TLS_AES_256_GCM_SHA384" in newest["ciphers"], str(newest["ciphers"]))
    check(newest["resumed"] and older["resumed"], "no resumption")
    check(tree["alpn"] == {"offered": "h2,http/1.1", "selected": "http/1.1", "refused": False}, str(tree["alpn"]))
    check(not tree["versions"][3]["accepted"], "TLS 1.0 is accepted")
    tree = probe(t, OpensslServer(t, "-no_ticket", "-no_cache", mutual=False).text, "--alpn", "fix")
    check(tree["versions"][1]["resumed"] is False, str(tree["versions"][1]))
    check(tree["alpn"]["selected"] is None and tree["alpn"]["offered"] == "fix", str(tree["alpn"]))


@scenario
def what_is_wrong_with_the_servers_certificate(t):
    server = OpensslServer(t, mutual=False)
    check(probe(t, server.text)["chain"]["accepted"], "the right chain is refused")
    for more, reason in ((("--server-name", "other.example"), "name"), (("--trust", t.pki / "other-ca.pem"), "chain"),
                         (("--crl", t.pki / "root.crl", "--crl", t.pki / "intermediate-revokes-server.crl"), "revoked")):
        done = t.run("tokentls", "probe", "--json", *(() if "--trust" in more else ("--trust", t.pki / "root.pem")),
                     *(() if "--server-name" in more else ("--server-name", "gateway.example")), *more, server.text)
        chain = json.loads(done.stdout)["chain"]
        check(done.returncode == 0 and not chain["accepted"] and reason in chain["reason"], str(chain))
    leaf = t.pki / "server-cert.pem"
    alone = t.start(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", leaf, "-key", t.pki / "server.key", "-rev"])
    port = alone.wait_line(r"^ACCEPT 127\.0\.0\.1:(\d+)").group(1)
    chain = probe(t, f"127.0.0.1:{port}")["chain"]
    check(len(chain["certificates"]) == 1 and not chain["accepted"], f"a missing intermediate: {chain}")
    shuffled = t.file("shuffled.pem", (t.pki / "root.pem").read_text() + (t.pki / "intermediate.pem").read_text())
    odd = t.start(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", leaf, "-key", t.pki / "server.key", "-rev",
                   "-cert_chain", shuffled])
    port = odd.wait_line(r"^ACCEPT 127\.0\.0\.1:(\d+)").group(1)
    chain = probe(t, f"127.0.0.1:{port}")["chain"]
    remarks = [certificate["remark"] or "" for certificate in chain["certificates"]]
    check(chain["accepted"] and "wrong order" in remarks[1] and "wrong order" in remarks[2], str(remarks))


def staple(t, *more):
    """A stapled response for the server's certificate, made by openssl's responder."""
    index = t.file("index.txt", "V\t340101000000Z\t\t"
                   + subprocess.run(["openssl", "x509", "-in", t.pki / "server-cert.pem", "-noout", "-serial"], check=True,
                                    capture_output=True).stdout.decode().strip().split("=")[1] + "\tunknown\t/CN=x\n")
    out = t.folder / "staple.der"
    subprocess.run(["openssl", "ocsp", "-index", index, "-rsigner", t.pki / "intermediate.pem", "-rkey",
                    t.pki / "intermediate.key", "-CA", t.pki / "intermediate.pem", "-issuer", t.pki / "intermediate.pem",
                    "-cert", t.pki / "server-cert.pem", "-respout", out, "-noverify", *more], check=True,
                   capture_output=True)
    return out


@scenario
def a_staple_is_read_and_checked(t):
    server = OpensslServer(t, "-status_file", staple(t, "-ndays", "2"), mutual=False)
    tree = probe(t, server.text)
    check(tree["staple"]["status"] == "good" and tree["staple"]["problem"] is None, str(tree["staple"]))
    check(probe(t, OpensslServer(t, mutual=False).text)["staple"] is None, "a staple from nowhere")
    rubbish = t.file("rubbish.der", "no response")
    tree = probe(t, OpensslServer(t, "-status_file", rubbish, mutual=False).text)
    check(tree["staple"] is None or tree["staple"]["problem"], str(tree["staple"]))


class Plain(Server):
    """Says something, or nothing, and does not speak TLS."""

    def __init__(self, t, greeting, then="wait"):
        self.greeting = greeting
        self.then = then
        super().__init__(t)

    def serve(self, client, number):
        client.sendall(self.greeting)
        while self.then == "wait" and client.recv(65536):
            pass


@scenario
def what_is_not_tls_is_named(t):
    for greeting, name in ((b"220 mail.example ESMTP ready\r\n", "SMTP"), (b"220 ProFTPD Server\r\n", "FTP"),
                           (b"* OK IMAP4rev1 ready\r\n", "IMAP"), (b"+OK POP3 ready\r\n", "POP3"),
                           (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"), (b"\x01\x02\x03\x04\x05\x06", "unknown protocol")):
        tree = probe(t, Plain(t, greeting).text, expected=5, says="does not speak TLS")
        check(name in tree["looks_like"] and tree["advice"], str(tree["looks_like"]))
    tree = probe(t, HttpServer(t).text, "--timeout", "1s", expected=5)
    check("HTTP" in (tree["looks_like"] or "") or "time-out" in tree["error"], str(tree["error"]))
    done = t.run("tokentls", "probe", Plain(t, b"220 mail ESMTP\r\n").text)
    check(done.returncode == 5 and not done.stdout and b"what to do: " in done.stderr, str(done))


@scenario
def servers_that_say_nothing_hang_up_or_are_not_there(t):
    tree = probe(t, Plain(t, b"").text, "--timeout", "1s", expected=5, says="no answer to a TLS ClientHello")
    check("STARTTLS" in tree["advice"], str(tree["advice"]))
    tree = probe(t, Plain(t, b"", "close").text, expected=5, says="hangs up|reset")
    check(tree["error"], "no error")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    probe(t, f"127.0.0.1:{port}", expected=5, says="refused")
    probe(t, "nowhere.invalid:443", "--timeout", "3s", expected=5, says="nowhere.invalid")


class Handshaker(Server):
    """A TLS server in Python that asks for a certificate and then does `after` with the connection."""

    def __init__(self, t, after):
        self.after = after
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(t.pki / "server.pem", t.pki / "server.key")
        self.context.load_verify_locations(t.pki / "root.pem")
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.num_tickets = 0
        super().__init__(t)

    def serve(self, client, number):
        try:
            with self.context.wrap_socket(client, server_side=True) as tls:
                if self.after == "data":
                    tls.sendall(b"welcome")
                if self.after == "close":
                    return
                while tls.recv(1000):
                    pass
        except ssl.SSLError:
            pass


@scenario
def what_comes_after_the_handshake_counts(t):
    tree = probe(t, Handshaker(t, "close").text)
    check(modes(tree) == {"TLS 1.3": "mutual", "TLS 1.2": "mutual"} and not tree["certain"], str(tree["evidence"]))
    check(any("another reason" in note for note in tree["notes"]), str(tree["notes"]))
    tree = probe(t, Handshaker(t, "data").text)
    check(modes(tree)["TLS 1.3"] == "optional" and tree["certain"], str(tree["evidence"]))
    tree = probe(t, Handshaker(t, "wait").text, "--wait", "1s")
    check(modes(tree)["TLS 1.3"] == "optional" and not tree["certain"], str(tree["evidence"]))
    check("within 1000 ms" in tree["evidence"] and any("ignores" in note for note in tree["notes"]), str(tree))


@scenario
def people_get_aligned_text_of_80_columns(t):
    done = t.run("tokentls", "probe", "--trust", t.pki / "root.pem", "--server-name", "gateway.example",
                 OpensslServer(t).text)
    text = done.stdout.decode()
    check(done.returncode == 0 and not done.stderr, str(done))
    for pattern in (r"^server +127\.0\.0\.1:\d+ ", r"^client certificate  REQUIRED \(mutual TLS\)$", r"^  TLS 1\.3 +asks, and",
                    r"^issuers +CN=Demo Root CA", r"^verdict +accepted$", r"^  expires +20\d\d-\d\d-\d\d \(\d+ days\)$"):
        check(re.search(pattern, text, re.MULTILINE), f"/{pattern}/ is not in:\n{text}")
    check(max(map(len, text.splitlines())) <= 80, f"wider than 80 columns:\n{text}")
    check("\x1b" not in text, "colours in a pipe")


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    main()

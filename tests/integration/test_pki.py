#!/usr/bin/env python3
"""The fixture itself: what openssl says of each certificate must be what the scenarios rely on."""

import ssl
import subprocess

from harness import EchoServer, GnutlsServer, MODULE, OpensslServer, check, connect, exchange, main, scenario

VERDICTS = {"client": "OK", "good": "OK", "client-rsa4096": "OK", "client-ed25519": "OK", "client-p521": "OK",
            "revoked": "certificate revoked", "expired": "certificate has expired",
            "not-yet-valid": "certificate is not yet valid", "wrong-eku": "unsuitable certificate purpose",
            "unknown-ca": "unable to get local issuer certificate"}


def verify(t, name, purpose, *crls):
    lists = [word for crl in crls for word in ("-CRLfile", t.pki / crl)]
    done = subprocess.run(["openssl", "verify", "-purpose", purpose, "-CAfile", t.pki / "root.pem", "-untrusted",
                           t.pki / "intermediate.pem", "-crl_check_all", *lists, t.pki / f"{name}-cert.pem"],
                          capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@scenario
def clients_are_what_their_names_say(t):
    for name, expected in VERDICTS.items():
        said = verify(t, name, "sslclient", "root.crl", "intermediate.crl")
        check(expected in said, f"{name}: {said}")


@scenario
def crl_variants_revoke_what_they_say(t):
    for crls, expected in ((("root.crl", "intermediate.crl"), "OK"),
                           (("root.crl", "intermediate-expired.crl"), "CRL has expired"),
                           (("root.crl", "intermediate-revokes-server.crl"), "certificate revoked"),
                           (("root-revokes-intermediate.crl", "intermediate.crl"), "error 23 at 1 depth")):
        said = verify(t, "server", "sslserver", *crls)
        check(expected in said, f"{crls}: {said}")


@scenario
def the_copied_token_has_every_key(t):
    listing = subprocess.run(["pkcs11-tool", "--module", MODULE, "--token-label", "demo", "--login", "--pin",
                              t.token.pin, "--list-objects", "--type", "privkey"], capture_output=True, text=True,
                             env={"SOFTHSM2_CONF": str(t.token.conf), "PATH": "/usr/bin"}, check=True).stdout
    for label in [*VERDICTS, "client-rsa2048", "client-rsa3072", "client-p256", "client-p384", "server", "mismatch"]:
        check(f" {label}\n" in listing, f"no private key {label} on the token:\n{listing}")
    check(str(t.folder) in t.token.conf.read_text(), "the copy still uses the fixture's folder")


@scenario
def peers_answer(t):
    echo = EchoServer(t)
    data = bytes(range(256)) * 1000
    check(exchange(echo.address, data) == data, "the echo server does not echo")
    trust = ssl.create_default_context(cafile=t.pki / "root.pem")
    for server in (OpensslServer(t, mutual=False), GnutlsServer(t, mutual=False)):
        with trust.wrap_socket(connect(server.address), server_hostname="localhost") as client:
            client.sendall(b"one line\n")
            check(client.recv(100) == server.answer_to(b"one line\n"), server.process.tail())


if __name__ == "__main__":
    main()

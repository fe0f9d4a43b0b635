#!/usr/bin/env python3
# labels: smoke
"""The command line: `tokentls connect` in a pipe, its exit statuses and what it says."""

import re

from harness import EchoServer, OpensslServer, check, main, scenario


def status(done, expected, *said):
    """The exit status, and patterns that must match standard error."""
    text = done.stderr.decode(errors="replace")
    check(done.returncode == expected, f"status {done.returncode} instead of {expected}:\n{text}")
    for pattern in said:
        check(re.search(pattern, text, re.I), f"/{pattern}/ is not in:\n{text}")
    return done


def gateway(t, **options):
    return t.gateway(t.front("front", EchoServer(t).text, **options)).address("front")


@scenario
def a_pipe_through_the_gateway(t):
    address = gateway(t)
    data = bytes(range(256)) * 4096
    done = status(t.connect(address, data=data), 0)
    check(done.stdout == data, f"{len(done.stdout)} of {len(data)} bytes, or others")
    check(t.instrumented or done.stderr == b"", f"noise on standard error: {done.stderr}")


@scenario
def refused_servers_are_status_1(t):
    address = gateway(t)
    status(t.connect(address, name="other.example"), 1, "name|host")
    status(t.connect(address, crls=t.crls(intermediate="intermediate-revokes-server.crl")), 1, "revoked")
    status(t.connect(address, crls=t.crls(root="root-revokes-intermediate.crl")), 1, "revoked")
    status(t.connect(address, crls=[t.pki / "root.crl"]), 1, "CRL")
    status(t.connect(address, crls=t.crls(intermediate="intermediate-expired.crl")), 1, "CRL")
    bare = gateway(t, certificate=str(t.pki / "server-cert.pem"))
    status(t.connect(bare), 1, "issuer|unable to get")
    old = OpensslServer(t, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    check(t.connect(old.address).returncode in (1, 5), "TLS 1.1 was accepted")


@scenario
def refused_clients_are_status_1(t):
    address = gateway(t)
    for label in ("revoked", "expired", "not-yet-valid", "unknown-ca", "wrong-eku"):
        for version in ("1.2", "1.3"):
            status(t.connect(address, "--tls", version, label=label, data=b"hello\n"), 1)


@scenario
def without_identity_it_is_one_way(t):
    server = OpensslServer(t, mutual=False)
    done = status(t.connect(server.address, label=None, data=b"abc\n"), 0)
    check(done.stdout == b"cba\n", f"{done}")
    mutual = OpensslServer(t)
    status(t.connect(mutual.address, label=None, data=b"abc\n"), 1, "certificate")
    status(t.connect(mutual.address, "--one-way", label=None, data=b"abc\n"), 1, "certificate")


@scenario
def absent_tokens_and_keys_are_status_3(t):
    address = gateway(t)
    status(t.connect(address, label="nobody"), 3, "nobody|no .*key|match")
    elsewhere = t.connect(address, "--identity", "pkcs11:token=nowhere;object=client", "--module", t.token.module,
                          label=None)
    status(elsewhere, 3, "nowhere|no token|absent")
    status(t.connect(address, "--identity", "pkcs11:token=demo;type=private", "--module", t.token.module,
                     "--pin-source", f"file:{t.token.pin_file}", label=None), 3, r"more than one.*object=[a-z0-9-]+;type=private")


@scenario
def wrong_pins_are_status_4_and_tried_once(t):
    address = gateway(t)
    token = t.faulty_token()
    token.pin_file.write_text("000000000000\n")
    for _ in range(3):
        status(t.connect(address, token=token), 4, "PIN")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} attempts")


@scenario
def a_mismatch_of_key_and_certificate_is_refused(t):
    done = t.connect(gateway(t), label="mismatch")
    check(done.returncode in (2, 3), f"{done}")
    check(re.search(rb"certificate", done.stderr), f"{done}")
    done = t.connect(gateway(t), "--cert", t.pki / "spare.pem", label="client")
    check(done.returncode in (2, 3), f"{done}")


@scenario
def nobody_there_is_status_5(t):
    echo = EchoServer(t)
    address = echo.address
    echo.close()
    status(t.connect(address), 5, "refused")


@scenario
def bad_command_lines_are_status_2(t):
    for words in ([], ["127.0.0.1"], ["--trust", t.pki / "nowhere.pem", "127.0.0.1:1"], ["--trsut", "x", "127.0.0.1:1"],
                  ["--tls", "1.1", "127.0.0.1:1"]):
        status(t.run("tokentls", "connect", *words), 2)
    check(t.run("tokentls", "connect", "--help").returncode == 0, "--help")


@scenario
def explain_narrates_the_handshake(t):
    done = status(t.connect(gateway(t), "--explain", data=b"hello\n"), 0, "TLS ?v?1.3", "signature", "CKM_", "revocation|CRL",
                  "finished")
    check(done.stdout == b"hello\n", f"{done}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Keys and mechanisms as tokens offer them: each is used in a whole handshake, or refused with the reason."""
# labels: smoke

import json
import re

from harness import EchoServer, OpensslServer, check, exchange, host_port, main, refused, scenario

RSA, EC, EDWARDS = "client-rsa2048", "client-p256", "client-ed25519"

# Fault, key, TLS version, and the mechanism that must have made the signature.
USED = (("mechanism__only_hash_rsa", RSA, "1.2", "CKM_SHA256_RSA_PKCS"),
        ("mechanism__only_hash_rsa", RSA, "1.3", "CKM_SHA256_RSA_PKCS_PSS"),
        ("mechanism__only_x509", RSA, "1.2", "CKM_RSA_X_509"),
        ("mechanism__only_x509", RSA, "1.3", "CKM_RSA_X_509"),
        ("mechanism__no_pss", RSA, "1.3", "CKM_RSA_X_509"),
        ("mechanism__pss_lies", RSA, "1.3", "CKM_RSA_X_509"),
        ("mechanism__only_pkcs1", RSA, "1.2", "CKM_RSA_PKCS"),
        ("key__no_public", RSA, "1.3", ""), ("key__no_public", EC, "1.3", "CKM_ECDSA"),
        ("key__no_public", EDWARDS, "1.3", "CKM_EDDSA"),
        ("key__curve_oid", EDWARDS, "1.3", "CKM_EDDSA"), ("key__curve_name", EDWARDS, "1.2", "CKM_EDDSA"),
        ("key__curve_old_oid", EDWARDS, "1.3", "CKM_EDDSA"), ("key__point_raw", EDWARDS, "1.3", "CKM_EDDSA"),
        ("key__point_raw", EC, "1.3", "CKM_ECDSA"), ("sign__der_ecdsa", EC, "1.3", "CKM_ECDSA"),
        ("key__no_attributes", EC, "1.3", "CKM_ECDSA"), ("key__always_authenticate", EC, "1.2", "CKM_ECDSA"))


@scenario
def every_offer_is_used(t):
    server, token = OpensslServer(t), t.faulty_token()
    for fault, label, version, mechanism in USED:
        token.faults.set(fault)
        done = t.connect(server.address, "--tls", version, "--explain", label=label, token=token, data=b"abc\n")
        said = done.stderr.decode()
        check(done.returncode == 0 and done.stdout == b"cba\n", f"{fault}, {label}, TLS {version}: {said}")
        check(mechanism in said, f"{fault}, {label}, TLS {version}: not by {mechanism}: {said}")


@scenario
def a_key_that_may_not_sign_is_refused(t):
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set("key__no_sign")
    done = t.connect(server.address, label=EC, token=token, data=b"abc\n")
    check(done.returncode == 3 and b"CKA_SIGN is false" in done.stderr, str(done))


def agent_of(t, token, there, label=RSA, **identity):
    return t.agent(token.identity("key", label, **identity),
                   t.tunnel("tunnel", there, identity="key", resumption=False))


def works(agent, data, expected):
    "The keyholder has said that the key is ready; the worker learns it at the same time, so not the first try counts."
    for _ in range(20):
        if not refused(agent.address("tunnel")):
            break
    check(exchange(agent.address("tunnel"), data) == expected, agent.tail())


@scenario
def a_lie_that_cannot_be_probed_is_found_and_remembered(t):
    "A token with one session cannot try C_SignInit beforehand: the first signature steps down, the next ones know."
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set("open_session__single", "mechanism__pss_lies")
    agent = agent_of(t, token, server.text)
    address = agent.address("tunnel")
    for number in range(3):
        check(exchange(address, b"abc\n") == b"cba\n", f"connection {number}: {agent.tail()}")
    lies = token.faults.count("mechanism__pss_lies")
    check(0 < lies <= 2, f"{lies} attempts with a mechanism that was refused")
    check("CKM_RSA_X_509" in agent.text(), agent.tail())


@scenario
def a_token_with_pkcs1_only_is_not_offered_tls_1_3(t):
    "The server prefers TLS 1.3; the connection is made with 1.2, and the log says why."
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set("mechanism__only_pkcs1")
    agent = agent_of(t, token, server.text)
    check(exchange(agent.address("tunnel"), b"abc\n") == b"cba\n", agent.tail())
    agent.wait_line(r"connection ended.* tls=TLSv1\.2 .*mechanism=CKM_RSA_PKCS ")
    agent.wait_line(r"TLS 1\.3 is not offered identity=key reason=.*PKCS#1")


@scenario
def require_hardware_refuses_what_is_not_bound_to_hardware(t):
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set()
    agent = agent_of(t, token, server.text, require_hardware=True)
    agent.wait_line(r"identity state .*state=failed .*the token is in a software slot")
    check(refused(agent.address("tunnel")), "a key in a software slot was used")
    for fault, text in (("key__extractable", "CKA_EXTRACTABLE is not false"), ("key__imported", "CKA_LOCAL is not true"),
                        ("key__was_extractable", "CKA_NEVER_EXTRACTABLE is not true"),
                        ("key__no_attributes", "CKA_EXTRACTABLE is not false")):
        mark = agent.mark()
        token.faults.set("slots__hardware", fault)
        refused(agent.address("tunnel"))  # whoever needs it makes the keyholder look
        agent.wait_line(rf"identity state .*require-hardware refuses it.*{text}", after=mark)
        check(refused(agent.address("tunnel")), f"{fault}: was used")
    mark = agent.mark()
    token.faults.set("slots__hardware")
    agent.wait_line(r"identity state .*state=ready", after=mark)
    works(agent, b"abc\n", b"cba\n")


@scenario
def list_shows_how_a_key_is_protected(t):
    token = t.faulty_token()
    common = ("tokentls", "list", "--module", token.module, "--login", "--pin-source", f"file:{token.pin_file}")
    for fault, member, word in ((None, None, None), ("key__extractable", "extractable", "EXTRACTABLE"),
                                ("key__was_extractable", "never_extractable", "WAS EXTRACTABLE"),
                                ("key__imported", "local", "IMPORTED")):
        token.faults.set(*([fault] if fault else []))
        done = t.run(*common, "--json", token.uri(RSA), env=token.environment)
        check(done.returncode == 0, str(done))
        key = json.loads(done.stdout)["modules"][0]["tokens"][0]["keys"][0]
        expected = {"extractable": False, "never_extractable": True, "local": True}
        if member:
            expected[member] = not expected[member]
        check({name: key[name] for name in expected} == expected, f"{fault}: {key}")
        text = t.run(*common, token.uri(RSA), env=token.environment).stdout.decode()
        line = re.search(r"^ +key +(.*)$", text, re.MULTILINE).group(1)
        said = re.findall(r", ([A-Z ]+)(?=,|$)", line)
        check(line.startswith("RSA 2048") and said == ([word] if word else []), line)


@scenario
def a_key_that_is_written_later_is_found(t):
    "The token stays where it is; the connection that needs the key makes the keyholder search."
    echo, token = EchoServer(t), t.faulty_token()
    gateway = t.gateway(t.front("front", echo.text))
    token.faults.set("find_objects__none")
    agent = agent_of(t, token, host_port(gateway.address("front")), "client")
    agent.wait_line(r"identity state .*state=failed .*no private key fits")
    address = agent.address("tunnel")
    check(refused(address), "works without a key")
    mark = agent.mark()
    token.faults.set()
    refused(address)
    agent.wait_line(r"identity state .*state=ready .*transition=recovered", after=mark)
    works(agent, b"hello\n", b"hello\n")


if __name__ == "__main__":
    main()

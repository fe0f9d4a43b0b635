#!/usr/bin/env python3
"""tokentls doctor: each thing that can be wrong between the reader and the gateway is found, and no PIN is spent."""
# labels: smoke
# timeout: 240

import json
import os
import re
import socket

from harness import EchoServer, OpensslServer, check, main, scenario
from harness.schema import validate


def doctor(t, *words, expected, env=None):
    """The findings of a run, checked against the schema."""
    env = {"PCSCLITE_CSOCK_NAME": str(t.folder / "no-pcscd"), **(env or {})}
    done = t.run("tokentls", "doctor", "--json", *words, env=env, seconds=60)
    check(done.returncode == expected, f"status {done.returncode}, not {expected}: {done.stderr.decode()}"
                                       f"{done.stdout.decode()}")
    tree = json.loads(done.stdout)
    validate("doctor", tree)
    check(tree["ok"] == (expected == 0), str(tree["problems"]))
    return tree["findings"]


def assert_finding(findings, result, pattern, area=None):
    """One finding with this result matches; all others of the same kind are shown if not."""
    for finding in findings:
        if finding["result"] == result and re.search(pattern, f"{finding['subject']}: {finding['text']}") and \
                area in (None, finding["area"]):
            check(result == "ok" or finding["fix"] or finding["area"] == "configuration", f"no fix: {finding}")
            return
    raise AssertionError(f"no {result} /{pattern}/ in:\n" + "\n".join(map(str, findings)))


def agent_config(t, token, server, identity=None, **tunnel):
    return t.config("agent", token.identity("client", **(identity or {})),
                    t.tunnel("out", server, identity="client", **tunnel))


@scenario
def all_is_well_and_no_pin_is_spent(t):
    token = t.faulty_token()
    findings = doctor(t, "--config", agent_config(t, token, OpensslServer(t).text), expected=0)
    for area, pattern in (("configuration", "correct configuration of tokentls-agent"), ("modules", "loads; 1 token"),
                          ("identity", r"identity client: PIN source file:.*there, for user"),
                          ("identity", r"CN=client,.*valid for \d+ more days"), ("identity", "no login is withheld"),
                          ("identity", "demo: no wrong PIN"), ("trust and revocation", "1 trusted root, all valid"),
                          ("trust and revocation", r"CRL of CN=Demo Root CA.*good for \d+ more hours"),
                          ("network", "tunnel out: TLS 1.3"), ("network", "asks for a client certificate"),
                          ("network", "server's certificate is in order")):
        assert_finding(findings, "ok", pattern, area)
    check(token.faults.count("C_Login") == 0, "a login without --test-signature")


@scenario
def a_test_signature_logs_in_once(t):
    token = t.faulty_token()
    config = agent_config(t, token, OpensslServer(t).text)
    findings = doctor(t, "--config", config, "--test-signature", expected=0)
    assert_finding(findings, "ok", r"key and certificate belong together; test signature: ecdsa_secp256r1_sha256 with CKM_")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    mismatch = t.config("agent", token.identity("mismatch"), t.tunnel("out", OpensslServer(t).text, identity="mismatch"))
    assert_finding(doctor(t, "--config", mismatch, "--test-signature", expected=1), "problem", "no test signature")


@scenario
def a_wrong_pin_is_tried_once_and_told_ever_after(t):
    token = t.faulty_token()
    wrong = t.file("wrong", "999999\n")
    config = agent_config(t, token, OpensslServer(t).text, {"pin_source": f"file:{wrong}"},)
    for _ in range(2):
        findings = doctor(t, "--config", config, "--test-signature", expected=1)
        assert_finding(findings, "problem", "no test signature", "identity")
    check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")
    check("999999" not in json.dumps(findings), "the PIN is shown")


@scenario
def a_login_that_the_daemon_withholds_is_found_and_not_tried(t):
    token = t.faulty_token()
    wrong = t.file("wrong", "999999\n")
    config = agent_config(t, token, OpensslServer(t).text, {"pin_source": f"file:{wrong}"})
    agent = t.daemon("tokentls-agent", config)
    agent.wait_line(r"identity .*identity=client\b")
    agent.stop()
    before = token.faults.count("C_Login")
    check(before == 1, f"{before} logins by the agent")
    findings = doctor(t, "--config", config, "--test-signature", expected=1, env={"XDG_STATE_HOME": str(t.state("other"))})
    assert_finding(findings, "problem", r"PIN guard: the login to token .* is withheld")
    assert_finding(findings, "problem", "this PIN was refused before, and is not tried again")
    check(token.faults.count("C_Login") == before, "the PIN was tried once more")


@scenario
def errors_of_the_configuration_have_their_lines(t):
    config = t.file("agent.conf", 'tunnel "a" {\n  listen = "127.0.0.1:0"\n  conect = "x:1"\n}\n')
    findings = doctor(t, "--config", config, expected=1)
    assert_finding(findings, "problem", r"agent\.conf:3: .*conect")
    findings = doctor(t, "--config", t.folder / "nowhere.conf", expected=1)
    assert_finding(findings, "problem", r"nowhere\.conf", "configuration")


@scenario
def pin_files_that_others_may_read_or_that_are_empty(t):
    server = OpensslServer(t).text
    for name, text, mode, pattern in (("open", "123456\n", 0o644, "open"), ("empty", "", 0o600, "EMPTY"),
                                      ("gone", None, 0, "gone")):
        path = t.folder / name
        if text is not None:
            t.file(name, text, mode)
        config = agent_config(t, t.token, server, {"pin_source": f"file:{path}"})
        assert_finding(doctor(t, "--config", config, expected=1), "problem", pattern, "identity")


@scenario
def tokens_that_are_missing_locked_or_whose_module_fails(t):
    server = OpensslServer(t).text
    token = t.faulty_token()
    config = agent_config(t, token, server)
    for fault, result, pattern in (("login__locked", "problem", "LOCKED"), ("login__final_try", "problem", "ONE TRY LEFT"),
                                   ("login__count_low", "warning", "a wrong PIN was tried")):
        token.faults.set(fault)
        assert_finding(doctor(t, "--config", config, expected=0 if result == "warning" else 1), result, pattern, "identity")
    for fault, pattern in (("crash_in_init", "crashed"), ("initialize__fail", "CKR_")):
        token.faults.set(fault)
        assert_finding(doctor(t, "--config", config, expected=1), "problem", pattern, "modules")
    token.faults.clear()
    config = agent_config(t, token, server, {"uri": "pkcs11:token=nothere;object=client"})
    assert_finding(doctor(t, "--config", config, expected=1), "problem", "no token fits", "identity")
    config = agent_config(t, token, server, {"uri": "pkcs11:token=demo;object=nothere"})
    assert_finding(doctor(t, "--config", config, expected=0), "warning", "no certificate of this label", "identity")


@scenario
def certificates_and_crls_that_are_out_of_date(t):
    server = OpensslServer(t).text
    config = t.config("agent", t.token.identity("expired"),
                      t.tunnel("out", server, identity="expired", crl=t.crls(intermediate="intermediate-expired.crl")))
    findings = doctor(t, "--config", config, expected=1)
    assert_finding(findings, "problem", "CN=expired,.*the certificate has ended", "identity")
    assert_finding(findings, "problem", "CRL of CN=Demo Intermediate CA.*out of date", "trust and revocation")
    assert_finding(findings, "problem", "server's certificate is refused.*revocation", "network")


@scenario
def the_way_to_the_server(t):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    plain = EchoServer(t)
    one_way = OpensslServer(t, mutual=False)
    for server, result, pattern in ((f"127.0.0.1:{port}", "problem", "Connection refused"),
                                    ("nowhere.invalid:443", "problem", "nowhere.invalid"),
                                    (plain.text, "problem", "there is no TLS"),
                                    (one_way.text, "warning", "does not ask for a client certificate")):
        findings = doctor(t, "--config", agent_config(t, t.token, server), expected=0 if result == "warning" else 1)
        assert_finding(findings, result, pattern, "network")
    wrong_name = agent_config(t, t.token, one_way.text, server_name="other.example")
    assert_finding(doctor(t, "--config", wrong_name, expected=1), "problem", "refused.*name", "network")
    nobody = t.config("agent", t.tunnel("out", OpensslServer(t).text))
    assert_finding(doctor(t, "--config", nobody, expected=0), "warning", "the tunnel has no identity", "network")


@scenario
def a_gateway_is_examined_up_to_its_backend(t):
    backend = EchoServer(t)
    findings = doctor(t, "--config", t.config("gateway", t.front("in", backend.text)), expected=0)
    assert_finding(findings, "ok", "correct configuration of tokentls-gateway")
    assert_finding(findings, "ok", f"gateway in: backend {backend.text} accepts", "network")
    config = t.config("gateway", t.token.identity("server"),
                      t.front("in", backend.text, certificate=None, key=None, identity="server"))
    findings = doctor(t, "--config", config, "--test-signature", expected=0)
    assert_finding(findings, "ok", "test signature", "identity")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    findings = doctor(t, "--config", t.config("gateway", t.front("in", f"127.0.0.1:{port}")), expected=0)
    assert_finding(findings, "warning", "Connection refused", "network")


@scenario
def the_smartcard_service(t):
    config = agent_config(t, t.token, OpensslServer(t).text)
    path = t.folder / "pcscd"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert_finding(doctor(t, "--config", config, expected=0, env={"PCSCLITE_CSOCK_NAME": str(path)}), "ok",
                       "pcscd: answers on", "reader")
    assert_finding(doctor(t, "--config", config, expected=1, env={"PCSCLITE_CSOCK_NAME": str(path)}), "problem",
                   "pcscd: does not answer.*refused", "reader")


@scenario
def without_a_configuration_it_looks_at_the_machine(t):
    done = t.run("tokentls", "doctor", "--json", env={**t.token.environment}, seconds=60)
    tree = json.loads(done.stdout)
    validate("doctor", tree)
    check(done.returncode == (0 if tree["ok"] else 1), str(done.returncode))
    check({"reader", "modules", "clock"} <= {finding["area"] for finding in tree["findings"]}, str(tree))
    for words, text in ((("--test-signature",), "needs --config"), (("FILE",), "argument")):
        done = t.run("tokentls", "doctor", *words)
        check(done.returncode == 2 and text in done.stderr.decode(), str(done))


@scenario
def people_get_lines_of_80_columns(t):
    config = agent_config(t, t.token, OpensslServer(t).text)
    done = t.run("tokentls", "doctor", "--config", config, env={"PCSCLITE_CSOCK_NAME": str(t.folder / "no")})
    text = done.stdout.decode()
    check(done.returncode == 0 and re.search(r"^0 problems, \d+ warnings?, \d+ ok$", text, re.MULTILINE), text)
    wide = [line for line in text.splitlines() if len(line) > 80 and not re.search(r"\S{59}", line)]
    check(not wide and "\x1b" not in text, f"wider than 80 columns: {wide}")


@scenario
def the_daemons_check_speaks_json_too(t):
    config = agent_config(t, t.token, "127.0.0.1:1")
    done = t.run("tokentls-agent", "--config", config, "--check", "--json")
    tree = json.loads(done.stdout)
    check(done.returncode == 0 and tree["ok"] and not tree["errors"], str(tree)[:500])
    tunnel = next(section for section in tree["configuration"]["sections"] if section["kind"] == "tunnel")
    check(tunnel["name"] == "out" and tunnel["line"] > 0, str(tunnel)[:500])
    check(tunnel["options"]["connect"] == ["127.0.0.1:1"] and tunnel["options"]["revocation"] == "required"
          and tunnel["options"]["connect-timeout"] == 10000 and tunnel["options"]["resumption"] is True, str(tunnel))
    bad = t.file("bad.conf", "workers = 0\n")
    done = t.run("tokentls-agent", "--config", bad, "--check", "--json")
    tree = json.loads(done.stdout)
    check(done.returncode == 2 and not tree["ok"] and "bad.conf:1" in tree["errors"][0] and tree["configuration"] is None,
          str(tree))
    done = t.run("tokentls-agent", "--config", bad, "--json")
    check(done.returncode == 2 and b"--check" in done.stderr, str(done))


if __name__ == "__main__":
    os.umask(0o022)
    main()

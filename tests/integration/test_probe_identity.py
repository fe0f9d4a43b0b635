#!/usr/bin/env python3
"""tokentls probe --identity: would a certificate be accepted, and why not; and --insecure-keylog."""
# labels: smoke
# timeout: 240

import json
import os
import re

from harness import OpensslServer, check, main, scenario
from harness.schema import validate


def probe(t, there, *more, expected=0, says="", env=None):
    done = t.run("tokentls", "probe", "--json", "--trust", t.pki / "root.pem", "--server-name", "gateway.example",
                 *more, there, env=env)
    error = done.stderr.decode(errors="replace")
    check(done.returncode == expected, f"status {done.returncode}, not {expected}: {error}{done.stdout.decode()}")
    check(re.search(says, error), f"/{says}/ is not in: {error}")
    tree = json.loads(done.stdout)
    validate("probe", tree)
    return tree


def try_labels(t, there, wait, *labels):
    """{label: entry}, and the first problem of each version in one text."""
    wanted = [word for label in labels for word in ("--identity", t.token.uri(label))]
    tree = probe(t, there, "--module", t.token.module, "--pin-source", f"file:{t.token.pin_file}", "--wait", wait, *wanted,
                 env=t.token.environment)
    found = dict(zip(labels, tree["identities"]))
    return found, {label: " ".join(version["problems"][0] for version in one["versions"] if version["problems"])
                   for label, one in found.items()}


@scenario
def your_certificates_are_judged_and_tried(t):
    server = OpensslServer(t).text
    found, problems = try_labels(t, server, "1s", "client", "client-ed25519")
    for label, one in found.items():
        check(not problems[label] and one["proof"] == "accepted" and "CKM_" in one["detail"], f"{label}: {one}")
    found, problems = try_labels(t, server, "10s", "expired", "wrong-eku", "unknown-ca")
    check("expired" in problems["expired"] and found["expired"]["proof"] == "refused", str(found["expired"]))
    check("extended key usage" in problems["wrong-eku"] and found["wrong-eku"]["proof"] == "refused", str(found))
    check("not in the server's list" in problems["unknown-ca"], problems["unknown-ca"])
    rsa_only = OpensslServer(t, "-client_sigalgs", "rsa_pss_rsae_sha256")
    found, problems = try_labels(t, rsa_only.text, "10s", "client")
    check("no signature scheme" in problems["client"] and found["client"]["proof"] != "accepted", str(found))


@scenario
def a_server_that_does_not_ask_is_shown_nothing(t):
    found, problems = try_labels(t, OpensslServer(t, mutual=False).text, "1s", "client")
    check(found["client"]["proof"] == "not-asked" and not problems["client"], str(found))


@scenario
def nothing_is_signed_for_a_server_that_is_refused(t):
    token = t.faulty_token()
    done = t.run("tokentls", "probe", "--json", "--trust", t.pki / "other-ca.pem", "--server-name", "gateway.example",
                 "--identity", token.uri("client"), "--module", token.module, "--pin-source", f"file:{token.pin_file}",
                 OpensslServer(t).text, env=token.environment)
    one = json.loads(done.stdout)["identities"][0]
    check(done.returncode == 0 and one["proof"] == "not-tried" and "nothing was signed" in one["detail"], str(one))


@scenario
def token_and_pin_errors_have_their_statuses(t):
    token = t.faulty_token()
    server = OpensslServer(t).text
    tree = probe(t, server, "--module", token.module, "--pin-source", f"file:{token.pin_file}", "--identity",
                 token.uri("nothere"), expected=3, says="nothere", env=token.environment)
    check(tree["client_certificate"] == "mutual" and tree["identities"][0]["proof"] == "not-tried", str(tree))
    wrong = t.file("wrong-pin", "999999\n")
    before = token.faults.count("C_Login")
    probe(t, server, "--module", token.module, "--pin-source", f"file:{wrong}", "--identity", token.uri("client"),
          expected=4, env=token.environment)
    check(token.faults.count("C_Login") == before + 1, "not one login")
    for words, text in ((("--pin-source", "ask"), "without --identity"), (("--wait", "0"), "longer"),
                        (("--expect", "maybe"), "mutual|one-way")):
        done = t.run("tokentls", "probe", *words, server)
        check(done.returncode == 2 and re.search(text.replace("|", r"\|"), done.stderr.decode()), str(done))


@scenario
def session_secrets_are_written_on_demand_only(t):
    server = OpensslServer(t, mutual=False).text
    trap, log = t.folder / "trap", t.folder / "keys"
    probe(t, server, env={"SSLKEYLOGFILE": str(trap)})
    t.run("tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", server,
          env={"SSLKEYLOGFILE": str(trap)})
    check(not trap.exists(), "SSLKEYLOGFILE has an effect")
    probe(t, server, "--insecure-keylog", log)
    check("CLIENT_RANDOM" in log.read_text() and (log.stat().st_mode & 0o777) == 0o600, "no secrets, or in the open")
    before = len(log.read_text())
    done = t.run("tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example",
                 "--insecure-keylog", log, server)
    check(done.returncode == 0 and "CLIENT_TRAFFIC_SECRET_0" in log.read_text()[before:], str(done))
    link = t.folder / "link"
    link.symlink_to(log)
    loose = t.file("loose", "", 0o644)
    fifo = t.folder / "fifo"
    os.mkfifo(fifo)
    twice = t.folder / "twice"
    os.link(log, twice)
    for path in (link, loose, fifo, twice, t.folder / "missing" / "keys"):
        done = t.run("tokentls", "probe", "--insecure-keylog", path, server)
        check(done.returncode in (2, 5) and str(path).encode() in done.stderr, f"{path}: {done}")


if __name__ == "__main__":
    main()

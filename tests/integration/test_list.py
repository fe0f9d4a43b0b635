#!/usr/bin/env python3
"""tokentls list: what it shows, for people and for programs, and what a bad module or PIN does to it."""
# labels: smoke
# timeout: 180

import json
import re

from harness import MODULE, OpensslServer, check, main, scenario
from harness.schema import validate


def run(t, *more, token=None, expected=0, says=""):
    """Run list on a token's module; (standard output, standard error)."""
    token = token or t.token
    done = t.run("tokentls", "list", "--module", token.module, *more, env=token.environment)
    error = done.stderr.decode(errors="replace")
    check(done.returncode == expected, f"status {done.returncode}, not {expected}: {error}")
    check(re.search(says, error), f"/{says}/ is not in: {error}")
    return done.stdout.decode(), error


def login(token):
    return ["--login", "--pin-source", f"file:{token.pin_file}"]


def tree_of(t, *more, **options):
    """The only token of the JSON listing."""
    tree = json.loads(run(t, "--json", *more, **options)[0])
    validate("list", tree)
    modules = tree["modules"]
    check(len(modules) == 1 and len(modules[0]["tokens"]) == 1, f"not one module with one token: {modules}")
    return modules[0]["tokens"][0]


@scenario
def people_see_identities_with_uris_to_paste(t):
    text, _ = run(t, *login(t.token), "pkcs11:token=demo;object=client")
    for pattern in (r"^token +demo", r"^  PIN +ok, logged in", r"^  identity +CN=client,", r"^    expires +20\d\d-.*days\)",
                    r"^    signs +ecdsa_", r"^    URI +pkcs11:.*object=client;type=private$"):
        check(re.search(pattern, text, re.MULTILINE), f"/{pattern}/ is not in:\n{text}")
    check(t.token.pin not in text, "the PIN is shown")
    hidden, _ = run(t, "pkcs11:token=demo;object=client")
    check("--login" in hidden and "identity" not in hidden, f"without a login:\n{hidden}")


@scenario
def programs_get_the_documented_tree(t):
    token = tree_of(t, *login(t.token), "pkcs11:token=demo")
    check(token["label"] == "demo" and token["logged_in"] is True and token["pin"] == "ok", str(token)[:500])
    labels = {key["label"] for key in token["keys"]}
    check({"client", "revoked", "client-rsa2048", "client-ed25519"} <= labels, str(labels))
    for key in token["keys"]:
        check({"uri", "label", "id", "algorithm", "bits", "schemes", "mechanisms", "sensitive", "extractable",
               "always_authenticate", "sign"} <= set(key), str(key))
        check(len(key["schemes"]) == len(key["mechanisms"]) > 0, str(key))
    subjects = {identity["subject"].split(",")[0] for identity in token["identities"]}
    check({"CN=client", "CN=expired"} <= subjects, str(subjects))
    expired = {item["label"]: item["expired"] for item in token["certificates"]}
    check(expired["expired"] is True and expired["client"] is False, str(expired))


@scenario
def identities_have_their_chain_and_what_is_wrong_with_them(t):
    token = tree_of(t, *login(t.token), "pkcs11:token=demo")
    found = {identity["subject"].split(",")[0]: identity for identity in token["identities"]}
    good, bad, old = (found[f"CN={name}"] for name in ("client", "wrong-eku", "expired"))
    check(good["problems"] == [] and 300 < good["days_left"] < 400, str(good))
    check([name.split(",")[0] for name in good["chain"]] == ["CN=Demo Intermediate CA"], str(good["chain"]))
    check(good["chain_issuer"].startswith("CN=Demo Root CA"), str(good["chain_issuer"]))
    check("extended key usage" in bad["problems"][0], str(bad["problems"]))
    check(old["days_left"] < 0 and "has expired" in old["problems"][0], str(old))
    alone = tree_of(t, *login(t.token), "pkcs11:token=demo;object=client")["identities"][0]
    check(alone["chain"] == good["chain"], f"a narrower URI makes another chain: {alone['chain']}")
    certificate = next(item for item in token["certificates"] if item["uri"] == good["certificate"])
    check(certificate["key_usage"] == ["digitalSignature"] and certificate["extended_key_usage"] == ["clientAuth"],
          str(certificate))
    text, _ = run(t, *login(t.token), "pkcs11:token=demo;object=client")
    for pattern in (r"^    for +clientAuth$", r"^    chain +CN=Demo Intermediate CA", r"the server needs CN=Demo Root CA",
                    r"^    key +EC P-256, never extractable, made on the token$", r"\(CKM_ECDSA\)"):
        check(re.search(pattern, text, re.MULTILINE), f"/{pattern}/ is not in:\n{text}")


@scenario
def each_uri_finds_its_object_again(t):
    token = tree_of(t, *login(t.token), "pkcs11:token=demo")
    for kind in ("keys", "certificates"):
        for item in token[kind][:4]:
            again = tree_of(t, *login(t.token), item["uri"])
            check([found["uri"] for found in again[kind]] == [item["uri"]], f"{item['uri']}: {again[kind]}")
    uri = next(identity["key"] for identity in token["identities"] if identity["subject"].startswith("CN=client,"))
    server = OpensslServer(t)
    done = t.run("tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--identity",
                 uri, "--module", MODULE, "--pin-source", f"file:{t.token.pin_file}", server.text, input=b"abc\n",
                 env=t.token.environment)
    check(done.returncode == 0 and done.stdout == b"cba\n", done.stderr.decode())


@scenario
def what_fits_nothing_is_3(t):
    run(t, "pkcs11:token=nothere", expected=3, says="nothing fits pkcs11:token=nothere")
    run(t, *login(t.token), "pkcs11:token=demo;object=nothere", expected=3, says="nothing fits")
    run(t, "pkcs11:token=demo;object=client;type=private", expected=3, says="--login")
    done = t.run("tokentls", "list", "--module", "/nowhere.so", env=t.token.environment)
    check(done.returncode == 3 and b"/nowhere.so" in done.stdout, str(done))


@scenario
def usage_errors_are_2(t):
    run(t, "pkcs11:tokn=demo", expected=2, says="tokn")
    run(t, "--pin-source", "ask", expected=2, says="without --login")
    run(t, "a", "b", expected=2)
    token = t.faulty_token()
    for uri in ((), ("pkcs11:",), ("pkcs11:object=client",)):
        run(t, *login(token), *uri, token=token, expected=2, says="names the token")
    check(token.faults.count("C_Login") == 0, "a PIN was tried on tokens that nobody named")


@scenario
def a_wrong_pin_is_4_and_tried_once(t):
    token = t.faulty_token()
    wrong = t.file("wrong-pin", "999999\n")
    for _ in range(2):
        text, error = run(t, "--login", "--pin-source", f"file:{wrong}", "pkcs11:token=demo", token=token, expected=4)
        check("token " in text and "certificate" in text, f"the public objects are not shown:\n{text}")
        check("999999" not in text + error, "the PIN is shown")
        check(token.faults.count("C_Login") == 1, f"{token.faults.count('C_Login')} logins")


@scenario
def a_bad_module_costs_its_own_part_only(t):
    token = t.faulty_token()
    for fault, text in (("slots__hang", "did not answer"), ("crash_in_init", "crashed"), ("initialize__fail", "CKR_"),
                        ("slots__fail", "CKR_DEVICE_ERROR"), ("find_objects__hang", "did not answer"),
                        ("token_info__fail", "")):
        token.faults.set(fault)
        done = t.run("tokentls", "list", "--json", "--timeout", "3s", "--module", token.module, "--module", MODULE,
                     env=token.environment)
        validate("list", json.loads(done.stdout))
        bad, good = json.loads(done.stdout)["modules"]
        check(bad["module"] == str(token.module) and text in (bad["error"] or ""), f"{fault}: {bad}"[:1000])
        check(good["error"] is None and good["tokens"][0]["label"] == "demo", f"{fault}: {good}"[:1000])
        check(len(good["tokens"][0]["certificates"]) > 5, f"{fault}: the good module's certificates are missing")
    token.faults.clear()
    check(len(tree_of(t, token=token)["certificates"]) > 5, "the module does not work without faults")


@scenario
def a_token_cannot_steer_the_terminal(t):
    token = t.faulty_token()
    token.faults.set("token_info__evil_label")
    for form in ((), ("--json",)):
        done = t.run("tokentls", "list", *form, "--module", token.module, env=token.environment)
        check(token.faults.since_set("token_info__evil_label") > 0, "the label was never asked for")
        check(not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", done.stdout + done.stderr), str(done.stdout))
        done.stdout.decode()  # and it is UTF-8


@scenario
def a_locked_pin_is_said_before_it_is_tried(t):
    token = t.faulty_token()
    for fault, text in (("login__locked", "LOCKED"), ("login__final_try", "ONE TRY LEFT"),
                        ("login__count_low", "wrong PIN")):
        token.faults.set(fault)
        check(text in run(t, token=token)[0], fault)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""init-token, enroll and import: from a blank token to a connection through the gateway, and all that may go wrong."""
# labels: smoke
# timeout: 240

import re

from harness import EchoServer, check, main, scenario
from harness.blank import Blank, issue, openssl
from harness.terminal import Terminal

ALGORITHMS = {"rsa2048": "2048 bit", "rsa3072": "3072 bit", "rsa4096": "4096 bit", "p256": "P-256", "p384": "P-384",
              "p521": "P-521", "ed25519": "ED25519"}


@scenario
def from_a_blank_token_to_a_connection(t):
    blank = Blank(t)
    text = blank.initialise()
    check(re.search(r"^token +pkcs11:.*token=new$", text, re.M), text)
    request = blank.enrol("--dns", "client.example", "--uri", "urn:example:client")
    text = blank.store(issue(t, request, "issued"))
    check(re.search(r"^issuers +1 stored, 0 there already, 1 left out", text, re.M), text)
    uri = re.search(r"^  key +(pkcs11:\S+)$", text, re.M).group(1)
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, allow_any_valid=None) .rstrip().rstrip("}") +
                        '  allow { uri = {"urn:example:client"} }\n}\n')
    done = t.run("tokentls", "connect", "--trust", t.pki / "root.pem", "--server-name", "gateway.example", "--identity", uri,
                 "--module", blank.module, "--pin-source", f"file:{blank.pin}",
                 "{}:{}".format(*gateway.address("front")), input=b"from a new key\n", env=blank.environment)
    check(done.returncode == 0 and done.stdout == b"from a new key\n", str(done))


@scenario
def every_algorithm_makes_a_request_that_verifies(t):
    blank = Blank(t)
    blank.initialise()
    for algorithm, shown in ALGORITHMS.items():
        request = blank.enrol("--dns", "a.example", "--dns", "*.b.example", "--uri", "urn:x:y", algorithm=algorithm,
                              label=algorithm)
        text = openssl("req", "-in", request, "-noout", "-text", "-verify")
        for part in (shown, f"CN = {algorithm}", 'O = "Example, Inc"', "Digital Signature", "TLS Web Client Authentication",
                     "DNS:a.example, DNS:*.b.example, URI:urn:x:y"):
            check(part in text, f"{algorithm}: {part} is not in {text}")
        check(request.stat().st_mode & 0o077 == 0, "the request is readable for others")
    keys = {key["label"]: key for key in blank.listing()["keys"]}
    check(set(keys) == set(ALGORITHMS), str(keys))
    for key in keys.values():
        check(key["sensitive"] and not key["extractable"] and key["sign"] and len(key["id"]) == 40, str(key))


@scenario
def a_given_id_and_standard_output(t):
    blank = Blank(t)
    blank.initialise()
    text = blank.run("enroll", "--token", "pkcs11:token=new", "--algorithm", "p256", "--label", "x", "--id", "01:ab",
                     "--subject", "CN=x", "--pin-source", f"file:{blank.pin}", "--csr", "-")
    check(text.startswith("-----BEGIN CERTIFICATE REQUEST-----") and text.endswith("-----END CERTIFICATE REQUEST-----\n"), text)
    check([key["id"].replace(":", "") for key in blank.listing()["keys"]] == ["01ab"], str(blank.listing()["keys"]))


@scenario
def what_is_there_is_not_overwritten(t):
    blank = Blank(t)
    blank.initialise()
    before = blank.enrol("--id", "0102").read_text()
    blank.enrol(expected=2, says=r"label \"key\" is taken on the token by pkcs11:")
    blank.enrol("--id", "0102", label="other", expected=2, says="id is taken on the token by pkcs11:")
    check((blank.folder / "key.csr").read_text() == before, "the request was replaced")
    check(len(blank.listing()["keys"]) == 1, str(blank.listing()["keys"]))
    blank.initialise(expected=2, says="another token has this label already")
    blank.run("init-token", "--label", "x" * 33, "--so-pin-source", f"file:{blank.so_pin}", "--pin-source",
              f"file:{blank.pin}", expected=2, says="1 to 32 bytes")


@scenario
def usage_errors_come_before_a_pin(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    logins = blank.faults.count("C_Login")
    for more, says in ((("--subject", "nonsense"), "--subject"), (("--dns", "a b"), "no DNS name"),
                       (("--uri", "nothing"), "no URI"), (("--id", "xyz"), "hex"), (("--csr", "/nowhere/x"), "folder"),
                       (("--cmp", "ftp://x"), "http://"), (("--cmp", "http://x"), "--cmp-reference")):
        status = 5 if says == "folder" else 2
        values = {"--subject": "CN=x", "--csr": str(blank.folder / "x.csr"), **{more[0]: more[1]}}
        blank.run("enroll", "--token", "pkcs11:token=new", "--algorithm", "p256", "--label", "x", "--pin-source",
                  f"file:{blank.pin}", *[word for pair in values.items() for word in pair], expected=status, says=says)
    blank.run("enroll", "--token", "pkcs11:token=new", "--csr", "-", expected=2, says="--algorithm is missing")
    check(blank.faults.count("C_Login") == logins, "a PIN was tried")


@scenario
def a_wrong_pin_is_tried_once(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    wrong = blank.pin_file("wrong", "11111111")
    logins = blank.faults.count("C_Login")
    for _ in range(2):
        blank.run("enroll", "--token", "pkcs11:token=new", "--algorithm", "p256", "--label", "x", "--subject", "CN=x",
                  "--pin-source", f"file:{wrong}", "--csr", blank.folder / "x.csr", expected=4, says="PIN")
        check(blank.faults.count("C_Login") == logins + 1, "it was tried again")
    blank.run("enroll", "--token", "pkcs11:token=new", "--algorithm", "p256", "--label", "x", "--subject", "CN=x",
              "--pin-source", "none", "--csr", blank.folder / "x.csr", expected=4)
    check(not (blank.folder / "x.csr").exists(), "there is a request")


@scenario
def a_wrong_so_pin_is_tried_once(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    blank.enrol()
    good, calls = blank.so_pin, blank.faults.count("C_InitToken")
    blank.so_pin = blank.pin_file("wrong-so", "1234567890")
    for _ in range(2):
        blank.run("init-token", "--label", "new", "--insecure-erase", "new", "--so-pin-source", f"file:{blank.so_pin}",
                  "--pin-source", f"file:{blank.pin}", expected=4, says="SO PIN")
        check(blank.faults.count("C_InitToken") == calls + 1, "it was tried again")
    check(len(blank.listing()["keys"]) == 1, "the key is gone")
    blank.so_pin.write_text(good.read_text())
    blank.run("init-token", "--label", "new", "--insecure-erase", "new", "--so-pin-source", f"file:{blank.so_pin}",
              "--pin-source", f"file:{blank.pin}")
    blank.enrol()
    text = blank.run("init-token", "--label", "new", "--insecure-erase", "new", "--so-pin-source", "env:SO", "--pin-source",
                     "env:USER_PIN", env={"SO": good.read_text().strip(), "USER_PIN": blank.pin.read_text().strip()})
    check("token=new" in text and not blank.listing()["keys"], "the key is still there")


@scenario
def initialisation_that_fails_says_what_is_left(t):
    blank = Blank(t, faulty=True)
    short = blank.pin
    blank.pin = blank.pin_file("short", "1")
    blank.initialise(expected=4, says="takes PINs of 4 to 255 bytes; the user PIN")
    check(blank.faults.count("C_InitToken") == 0, "the token was initialised all the same")
    blank.pin = short
    blank.run("init-token", "--label", "new", "--insecure-erase", "nothing", "--so-pin-source", f"file:{blank.so_pin}",
              "--pin-source", f"file:{blank.pin}", expected=3, says="no token has the label")
    blank.faults.set("init_token__fail")
    blank.initialise(expected=3, says="C_InitToken: CKR_DEVICE_ERROR")
    blank.faults.set("login__pin_incorrect")
    blank.initialise(expected=4, says="the token is initialised, but has no user PIN yet")


@scenario
def half_done_work_is_undone(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    for fault, status, says in (("generate__fail", 3, "CKR_DEVICE_ERROR"),
                                ("generate__crash", 3, "module crashed .*making the key pair"),
                                ("token_info__write_protected", 3, "write-protected"),
                                ("key__extractable", 3, "can leave it.*|removed again"),
                                ("sign__device_error", 3, "CKR_DEVICE_ERROR.*the new key pair was removed again"),
                                ("sign__wrong_signature", 3, "wrong signature.*the new key pair was removed again"),
                                ("sign_init__function_failed", 3, "the new key pair was removed again"),
                                ("crash", 3, "the new key pair is still on the token")):
        blank.faults.set(fault)
        blank.enrol(expected=status, says=says)
        check(blank.faults.since_set(fault) > 0, f"{fault} never struck")
        blank.faults.clear()
        check(not (blank.folder / "key.csr").exists(), f"{fault}: there is a request")
        check(len(blank.listing()["keys"]) == (fault == "crash"), f"{fault}: {blank.listing()['keys']}")


@scenario
def only_the_certificate_of_a_key_on_the_token_is_stored(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    chain = issue(t, blank.enrol("--id", "77"), "issued")
    blank.store(t.pki / "client.pem", expected=2, says="does not belong to a key on the token; keys there: pkcs11:")
    blank.store(chain, "--id", "78", expected=2, says="with this id")
    blank.store(chain, "--id", "7", expected=2, says="--id")
    blank.store(t.pki / "server.key", expected=2, says="holds no certificate")
    blank.faults.set("create_object__fail")
    blank.store(chain, expected=3, says="CKR_DEVICE_MEMORY")
    blank.faults.set("create_object__fail after=1")
    blank.store(chain, expected=3, says="certificate was stored, but not all of its chain")
    blank.faults.clear()
    blank.store(chain, expected=2, says="is on the token already")
    second = issue(t, blank.enrol(label="second"), "second")
    check("1 stored, 0 there already" in blank.store(second, "--label", "its certificate"), "the issuer was not stored")
    third = issue(t, blank.enrol(label="third"), "third")
    check("0 stored, 1 there already" in blank.store(third), "the issuer was stored twice")
    token = blank.listing()
    check(len(token["certificates"]) == 4, str(token["certificates"]))
    by_label = {item["label"]: item for item in token["certificates"]}
    check(by_label["key"]["id"] == "77" and "its certificate" in by_label, str(by_label))
    check(len(token["identities"]) == 3, str(token["identities"]))


@scenario
def renewal_keeps_the_old_key_and_its_names(t):
    blank = Blank(t)
    blank.initialise()
    request = blank.enrol("--dns", "client.example", "--uri", "urn:example:client", algorithm="p384", label="client")
    blank.store(issue(t, request, "first"))
    for number in (2, 3):
        path = blank.folder / f"renewed-{number}.csr"
        text = blank.run("enroll", "--renew", "pkcs11:token=new;object=client", "--pin-source", f"file:{blank.pin}", "--csr", path)
        check(f"object=client-{number};" in text, text)
        shown = openssl("req", "-in", path, "-noout", "-text", "-verify")
        for part in ("CN = client", "DNS:client.example, URI:urn:example:client", "P-384"):
            check(part in shown, f"{part} is not in {shown}")
    path = blank.folder / "other.csr"
    blank.run("enroll", "--renew", "pkcs11:token=new;object=client", "--pin-source", f"file:{blank.pin}", "--csr", path, "--dns",
              "new.example", "--algorithm", "p256", "--label", "chosen")
    shown = openssl("req", "-in", path, "-noout", "-text")
    check("DNS:new.example\n" in shown and "urn:" not in shown and "P-256" in shown, shown)
    check({key["label"] for key in blank.listing()["keys"]} == {"client", "client-2", "client-3", "chosen"}, "keys")
    blank.run("enroll", "--renew", "pkcs11:token=new;object=chosen", "--pin-source", f"file:{blank.pin}", "--csr", path,
              expected=3, says="--renew: .*certificate")


def on_terminal(t, blank, *words):
    return Terminal(t, [t.program("tokentls"), words[0], "--module", blank.module, *words[1:]], blank.environment)


@scenario
def a_person_makes_up_pins_and_types_each_twice(t):
    blank = Blank(t)
    words = ["init-token", "--label", "new", "--so-pin-source", "ask", "--pin-source", "ask"]
    so_pin, pin = blank.so_pin.read_text(), blank.pin.read_text()
    for second, status in (("99999999\n", 4), (pin, 0)):
        terminal = on_terminal(t, blank, *words)
        for name, typed in (("SO PIN", so_pin), ("SO PIN", so_pin), ("user PIN", pin), ("user PIN", second)):
            terminal.expect(name)
            terminal.expect(": ")
            terminal.type(typed)
        check(terminal.end() == status, f"not status {status}: {terminal.text()}")
        check(so_pin.strip() not in terminal.text() and pin.strip() not in terminal.text(), "a PIN was echoed")
        check(status == 0 or "the two entries of the user PIN differ: nothing was done" in terminal.text(), terminal.text())
    blank.enrol()


def enrol_on_terminal(t, blank):
    """Enrol with the PIN typed; waits until the slow token is at work."""
    terminal = on_terminal(t, blank, "enroll", "--token", "pkcs11:token=new", "--algorithm", "p256", "--label", "key", "--subject",
                           "CN=key", "--csr", blank.folder / "key.csr")
    terminal.expect("PIN")
    terminal.expect(": ")
    terminal.type(blank.pin.read_text())
    blank.faults.wait_for("C_GenerateKeyPair", 1)
    return terminal


@scenario
def a_person_is_asked_and_sees_that_a_slow_token_works(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    blank.faults.set("generate__slow 2500")
    terminal = enrol_on_terminal(t, blank)
    terminal.expect("tokentls enroll: making the key pair: 1 s")
    terminal.expect("request ")
    check(terminal.end() == 0, terminal.text())
    check(blank.pin.read_text().strip() not in terminal.text(), "the PIN was echoed")
    openssl("req", "-in", blank.folder / "key.csr", "-noout", "-verify")


@scenario
def ctrl_c_undoes_what_is_half_done(t):
    blank = Blank(t, faulty=True)
    blank.initialise()
    blank.faults.set("generate__slow 1500")
    terminal = enrol_on_terminal(t, blank)
    terminal.type("\x03")
    status = terminal.end()
    check(status not in (0, -2) and "interrupted; the new key pair was removed again" in terminal.text(),
          f"status {status}: {terminal.text()}")
    blank.faults.clear()
    check(not blank.listing()["keys"] and not (blank.folder / "key.csr").exists(), str(blank.listing()["keys"]))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# labels: smoke
"""`tokentls` and `tokentls verify` as a person or a script meets them: exit statuses, messages, help and JSON."""
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time

from harness.schema import validate

PROGRAM = os.path.join(os.environ.get("TOKENTLS_BIN", ""), "tokentls")

CA_CONF = """
[ca]
default_ca = x
[x]
database = {folder}/index.txt
crlnumber = {folder}/crlnumber
default_md = sha256
default_crl_days = 30
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = DNS:a.example
authorityKeyIdentifier = keyid
"""

failures = []


def check(condition, text):
    if not condition:
        failures.append(text)
        print("FAILED:", text)


def run(*arguments, **options):
    ended = subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           stdin=subprocess.DEVNULL, timeout=60, check=False, **options)
    return ended.returncode, ended.stdout, ended.stderr


def expect(status, in_out, in_err, *arguments):
    got, out, err = run(*arguments)
    line = "tokentls " + " ".join(os.path.basename(a) for a in arguments)
    check(got == status, f"{line}: exit {got}, expected {status}\n{out}{err}")
    check(in_out in out, f"{line}: standard output lacks {in_out!r}:\n{out}")
    check(in_err in err, f"{line}: standard error lacks {in_err!r}:\n{err}")
    return out


def expect_json(status, *arguments):
    shown = json.loads(expect(status, "", "", *arguments, "--json"))
    validate("verify", shown)
    return shown


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def make_pki(folder):
    """A root with a CRL, a good leaf (serial 16) and a revoked one (serial 17)."""
    path = lambda name: os.path.join(folder, name)
    with open(path("ca.cnf"), "w", encoding="ascii") as file:
        file.write(CA_CONF.format(folder=folder))
    for name in ("root", "leaf"):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path(name + ".key"))
    openssl("req", "-x509", "-new", "-key", path("root.key"), "-subj", "/CN=Root", "-days", "30", "-out",
            path("root.pem"), "-config", path("ca.cnf"), "-extensions", "root")
    openssl("req", "-new", "-key", path("leaf.key"), "-subj", "/CN=leaf", "-out", path("leaf.csr"), "-config",
            path("ca.cnf"))
    for name, serial in (("good", "0x10"), ("revoked", "0x11")):
        openssl("x509", "-req", "-in", path("leaf.csr"), "-CA", path("root.pem"), "-CAkey", path("root.key"),
                "-set_serial", serial, "-days", "20", "-extfile", path("ca.cnf"), "-extensions", "leaf", "-out",
                path(name + ".pem"))
    with open(path("index.txt"), "w", encoding="ascii") as file:
        file.write("R\t491231235959Z\t260101000000Z,keyCompromise\t11\tunknown\t/CN=leaf\n")
    with open(path("crlnumber"), "w", encoding="ascii") as file:
        file.write("2A\n")
    openssl("ca", "-gencrl", "-config", path("ca.cnf"), "-cert", path("root.pem"), "-keyfile", path("root.key"), "-out",
            path("root.crl"))
    with open(path("garbage"), "w", encoding="ascii") as file:
        file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with open(path("empty"), "w", encoding="ascii"):
        pass
    return path


def check_program():
    expect(2, "", "usage: tokentls COMMAND")
    expect(0, "check a certificate chain", "", "--help")
    expect(0, "tokentls ", "", "--version")
    expect(2, "", 'unknown command "verfy"; did you mean verify?', "verfy")
    for arguments in (("verify", "--help"), ("help", "verify")):
        out = expect(0, "example:\n  tokentls verify --trust", "", *arguments)
        check(all(len(line) <= 80 for line in out.splitlines()), "a line of the help is longer than 80 columns")


def check_usage(path):
    good, trust = path("good.pem"), ("verify", "--trust", path("root.pem"))
    expect(2, "", "--trust FILE is missing", "verify", good)
    expect(2, "", "argument missing: LEAF", *trust)
    expect(2, "", "unknown option --truts; did you mean --trust?", "verify", "--truts", "x", good)
    expect(2, "", "--revocation is one of required|prefer|off", *trust, "--revocation", "maybe", good)
    expect(2, "", '--time: "tomorrow" is neither', *trust, "--time", "tomorrow", good)
    expect(2, "", '--policy: "x.y" is not an object identifier', *trust, "--policy", "x.y", good)
    expect(2, "", "--depth is a number from 0 to 32", *trust, "--depth", "99", good)
    expect(2, "", "missing.pem: cannot open: No such file", *trust, path("missing.pem"))
    expect(2, "", "missing.crl: No such file", *trust, "--crl", path("missing.crl"), good)
    expect(2, "", "missing: cannot open: No such file", "verify", "--trust", path("missing"), good)
    expect(2, "", "no certificate in the file", "verify", "--trust", path("empty"), good)
    expect(1, "", "garbage: object 1 is not a certificate", *trust, path("garbage"))
    expect(1, "", "no certificate in the file", *trust, path("empty"))
    expect(1, "", "object 1 is a certificate, not a CRL", *trust, "--crl", path("root.pem"), good)


def check_verdicts(path):
    trust = ("verify", "--trust", path("root.pem"), "--crl", path("root.crl"), "--purpose", "client")
    out = expect(0, "\naccepted\n", "", *trust, path("good.pem"))
    check("revocation  CRL of CN=Root" in out and "number 2a" in out, "the CRL that was used is not shown:\n" + out)
    expect(1, "rejected: certificate CN=leaf (depth 0): revocation: revoked since 2026-01-01T00:00:00Z (keyCompromise) "
           "by CRL of CN=Root (RFC 5280 6.1.3 (a)(3))", "", *trust, path("revoked.pem"))
    expect(0, "accepted", "", *trust, "--revocation", "off", path("revoked.pem"))
    expect(1, "not valid before", "", *trust, "--time", "2001-01-01T00:00:00Z", path("good.pem"))
    expect(1, "expired, not valid after", "", *trust, "--time", "4000000000", path("good.pem"))
    expect(1, "it is for a.example, not for b.example", "", *trust, "--hostname", "b.example", path("good.pem"))
    expect(0, "note: certificate CN=leaf (depth 0): revocation: no CRL of CN=Root covers it", "", "verify", "--trust",
           path("root.pem"), "--revocation", "prefer", path("good.pem"))
    expect(1, "no CRL of CN=Root covers it", "", "verify", "--trust", path("root.pem"), "--revocation", "required",
           path("good.pem"))


def check_json(path):
    trust = ("verify", "--trust", path("root.pem"), "--crl", path("root.crl"))
    good = expect_json(0, *trust, path("good.pem"))
    check(good["accepted"] is True and good["reason"] is None and good["x509_error"] == 0, "JSON: " + str(good))
    check([c["subject"] for c in good["path"]] == ["CN=leaf", "CN=Root"], "JSON path: " + str(good["path"]))
    check([c["anchor"] for c in good["path"]] == [False, True], "JSON anchors: " + str(good["path"]))
    check(good["path"][0]["crls"][0]["number"] == "2a", "JSON CRLs: " + str(good["path"][0]["crls"]))
    leaf, root = ([(c["check"], c["reference"]) for c in certificate["checks"]] for certificate in good["path"])
    words = ["chain", "extensions", "signature", "validity", "form", "revocation", "name-constraints", "policy",
             "algorithms"]
    check([word for word, _ in leaf] == words, "JSON checks of the leaf: " + str(leaf))
    check(("revocation", "RFC 5280 6.3.3") in leaf, "JSON checks of the leaf: " + str(leaf))
    check([word for word, _ in root] == ["chain", "extensions", "basic-constraints", "key-usage", "validity"],
          "JSON checks of the root: " + str(root))
    bad = expect_json(1, *trust, path("revoked.pem"))
    check(bad["accepted"] is False and bad["x509_error"] == 23, "JSON: " + str(bad))
    check(bad["reason"]["check"] == "revocation" and bad["reason"]["depth"] == 0, "JSON reason: " + str(bad["reason"]))
    words = [c["check"] for c in bad["path"][0]["checks"]]
    check("form" in words and "revocation" not in words and "algorithms" not in words, "JSON checks: " + str(words))
    expect_json(0, "verify", "--trust", path("root.pem"), "--revocation", "prefer", path("good.pem"))
    check(set(good) == set(bad), "the fields of the JSON object depend on the verdict")


def make_responses(path):
    """OCSP responses by the root about both leaves, one that has expired, and one by somebody else."""
    with open(path("ocsp.txt"), "w", encoding="ascii") as file:
        file.write("V\t491231235959Z\t\t10\tunknown\t/CN=leaf\n"
                   "R\t491231235959Z\t260101000000Z,keyCompromise\t11\tunknown\t/CN=leaf\n")
    for name, serial, signer, end in (("good", "0x10", "root", ["-ndays", "2"]), ("revoked", "0x11", "root", []),
                                      ("stranger", "0x10", "good", []), ("unknown", "0x12", "root", [])):
        key = path("root.key") if signer == "root" else path("leaf.key")
        openssl("ocsp", "-issuer", path("root.pem"), "-serial", serial, "-no_nonce", "-reqout", path("ocsp.req"))
        openssl("ocsp", "-index", path("ocsp.txt"), "-CA", path("root.pem"), "-rsigner", path(signer + ".pem"),
                "-rkey", key, "-rmd", "sha256", "-reqin", path("ocsp.req"), "-respout", path(name + ".ocsp"), *end)
    with open(path("good.ocsp"), "rb") as der, open(path("good.ocsp.pem"), "w", encoding="ascii") as file:
        file.write("-----BEGIN OCSP RESPONSE-----\n" + base64.encodebytes(der.read()).decode("ascii") +
                   "-----END OCSP RESPONSE-----\n")


def check_ocsp(path):
    trust, crl = ("verify", "--trust", path("root.pem")), ("--crl", path("root.crl"))
    good, revoked = path("good.pem"), path("revoked.pem")
    answer = lambda name: ("--ocsp-response", path(name))
    for name in ("good.ocsp", "good.ocsp.pem"):
        out = expect(0, "revocation  OCSP: good, CN=Root", "", *trust, *answer(name), good)
        check("\naccepted\n" in out, name + " is not accepted:\n" + out)
    by_ocsp = "revoked since 2026-01-01T00:00:00Z (keyCompromise) by OCSP response of CN=Root (RFC 6960 2.2)"
    expect(1, by_ocsp, "", *trust, *answer("revoked.ocsp"), revoked)
    expect(1, by_ocsp, "", *trust, *answer("revoked.ocsp"), "--revocation", "prefer", revoked)
    expect(1, "; OCSP: the OCSP response is about another certificate", "", *trust, *answer("revoked.ocsp"), good)
    expect(1, "; OCSP: its signer's certificate is not for signing OCSP responses", "", *trust,
           *answer("stranger.ocsp"), good)
    expect(1, "; OCSP: it has expired", "", *trust, *answer("good.ocsp"), "--time",
           str(int(time.time()) + 5 * 86400), good)
    expect(0, "accepted", "", *trust, *answer("good.ocsp"), *answer("revoked.ocsp"), good)
    # what the CRL says counts whatever OCSP says, unless it is left out of the order
    expect(1, "by CRL of CN=Root", "", *trust, *crl, *answer("good.ocsp"), revoked)
    expect(0, "accepted", "", *trust, *crl, *answer("revoked.ocsp"), good)
    expect(1, "revocation: no OCSP response about it (RFC 6960 3.2)", "", *trust, *crl, "--revocation-order", "ocsp",
           good)
    expect(1, "no CRL of CN=Root covers it", "", *trust, *answer("good.ocsp"), "--revocation-order", "crl", good)
    expect(1, "", "good.pem: is not one OCSP response", *trust, *answer("good.pem"), good)
    expect(2, "", "missing.ocsp: cannot open", *trust, *answer("missing.ocsp"), good)
    expect(2, "", '--revocation-order: "crl,http" is not', *trust, "--revocation-order", "crl,http", good)
    shown = expect_json(0, *trust, *answer("good.ocsp"), good)
    ocsp = shown["path"][0]["ocsp"]
    check(len(ocsp) == 1 and ocsp[0]["status"] == "good" and ocsp[0]["responder"] == "CN=Root" and
          ocsp[0]["delegated"] is False and ocsp[0]["next_update"] is not None, "JSON OCSP: " + str(ocsp))
    check(shown["revocation_order"] == "ocsp,crl", "JSON order: " + str(shown))


def check_pins(path):
    trust = ("verify", "--trust", path("root.pem"))
    der = subprocess.run(["openssl", "pkey", "-in", path("root.key"), "-pubout", "-outform", "DER"], check=True,
                         stdout=subprocess.PIPE, timeout=60).stdout
    pin = "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode("ascii")
    other = "sha256//" + base64.b64encode(bytes(32)).decode("ascii")
    expect(0, "accepted", "", *trust, "--trust-spki", other, "--trust-spki", pin, path("good.pem"))
    expect(1, "pin: neither it nor a certificate above it has one of the pinned keys (RFC 7469 2.6)", "", *trust,
           "--trust-spki", other, path("good.pem"))
    expect(2, "", '--trust-spki: "sha256//x" is not', *trust, "--trust-spki", "sha256//x", path("good.pem"))


def main():
    check_program()
    with tempfile.TemporaryDirectory() as folder:
        path = make_pki(folder)
        check_usage(path)
        check_verdicts(path)
        check_json(path)
        make_responses(path)
        check_ocsp(path)
        check_pins(path)
    print("failures:", len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

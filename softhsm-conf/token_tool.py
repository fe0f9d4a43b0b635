"""What the scripts that fill tokens share: pkcs11-tool, and certificates for keys that never leave their token."""

import os
import pathlib
import re
import subprocess
import tempfile
import threading

CURVES = {"p256": "EC:prime256v1", "p384": "EC:secp384r1", "p521": "EC:secp521r1", "ed25519": "EC:edwards25519"}
DAYS = "397"


def run(*argv, **extra):
    """Run a program and return what it says; its output is shown only when it fails."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "NAME": "none", "STATE": "none", **extra}, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} {words[1]} failed:\n{done.stdout.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def der(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def issue(public, out, subject, section, authority, serial, **extra):
    """Certificate `out` for the public key `public`, valid from now; `authority` is a path without .pem and .key, beside
    which openssl.conf lies."""
    run("openssl", "x509", "-new", "-force_pubkey", public, "-subj", subject, "-CA", f"{authority}.pem", "-CAkey",
        f"{authority}.key", "-extfile", pathlib.Path(authority).parent / "openssl.conf", "-extensions", section, "-days",
        DAYS, "-set_serial", serial, "-sha256", "-out", out, **extra)


class Tool:
    """pkcs11-tool for one token. One process at a time: SoftHSM rewrites the token's own file at each login, and whoever
    reads it just then finds no token."""

    def __init__(self, module, label, pin, **environment):
        self.words = ["pkcs11-tool", "--module", module, "--token-label", label]
        self.environment = {**environment, "TOOL_PIN": pin}
        self.in_use = threading.Lock()

    def __call__(self, *argv, login=False):
        with self.in_use:
            return run(*self.words, *(["--login", "--pin", "env:TOOL_PIN"] if login else []), *argv, **self.environment)

    def generate(self, label, kind, key_id, public):
        """A key pair on the token; its public key goes to the file `public`, PEM."""
        self("--keypairgen", "--key-type", CURVES.get(kind) or f"rsa:{kind[3:]}", "--label", label, "--id", key_id,
             login=True)
        self.read_public(label, kind, key_id, public)

    def read_public(self, label, kind, key_id, public):
        raw = f"{public}.der"
        if kind.startswith("rsa"):
            self("--read-object", "--type", "pubkey", "--id", key_id, "--output-file", raw)
        else:
            pathlib.Path(raw).write_bytes(self.public_point(label, kind))
        run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", raw, "-pubout", "-out", public)
        os.unlink(raw)

    def public_point(self, label, kind):
        """SubjectPublicKeyInfo (RFC 5480, RFC 8410) from the listing: --read-object fails for P-384."""
        for entry in self("--list-objects", "--type", "pubkey").split("Public Key Object")[1:]:
            if not re.search(rf"^\s*label:\s+{re.escape(label)}$", entry, re.M):
                continue
            point = bytes.fromhex(re.search(r"EC_POINT:\s+([0-9a-f]+)$", entry, re.M).group(1))
            point = point[3:] if point[1] == 0x81 else point[2:]
            if kind == "ed25519":
                return der(0x30, der(0x30, bytes.fromhex("06032b6570")), der(0x03, b"\0", point))
            curve = bytes.fromhex(re.search(r"EC_PARAMS:\s+([0-9a-f]+)", entry).group(1))
            return der(0x30, der(0x30, bytes.fromhex("06072a8648ce3d0201"), curve), der(0x03, b"\0", point))
        raise SystemExit(f"no public key {label} on the token")

    def store_certificate(self, label, key_id, certificate):
        """A PEM certificate goes onto the token."""
        with tempfile.NamedTemporaryFile() as raw:
            run("openssl", "x509", "-in", certificate, "-outform", "DER", "-out", raw.name)
            self("--write-object", raw.name, "--type", "cert", "--label", label, "--id", key_id, login=True)

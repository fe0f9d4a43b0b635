#!/usr/bin/env python3
# labels: smoke
"""Allow blocks by identity: patterns, policies of the whole path, the issuing CA, PSD2, and a backend for each."""

import base64
import hashlib
import ssl
import subprocess

from harness import EchoServer, check, connect, main, scenario


def openssl(*argv):
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, check=False)
    check(done.returncode == 0, f"openssl {argv[0]}: {done.stderr.decode()}")
    return done.stdout


class Authority:
    """A CA of the scenario's own below the demo root: same name as another, if asked, with a key of its own."""

    def __init__(self, t, name, subject="/CN=Partner CA", *extensions):
        self.t, self.name = t, name
        self.make(name, subject, "root", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
                  *extensions, folder=t.pki)

    def make(self, name, subject, issuer, *extensions, folder=None):
        folder = folder or self.t.folder
        key, certificate = self.t.folder / f"{name}.key", self.t.folder / f"{name}.pem"
        config = self.t.file(f"{name}.ext", "\n".join(["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid",
                                                       *extensions]) + "\n")
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", subject, "-utf8", "-out", self.t.folder / f"{name}.csr")
        openssl("x509", "-req", "-in", self.t.folder / f"{name}.csr", "-CA", folder / f"{issuer}.pem", "-CAkey",
                folder / f"{issuer}.key", "-days", "2", "-extfile", config, "-out", certificate)

    def client(self, name, subject, *extensions):
        self.make(name, subject, self.name, "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
                  "extendedKeyUsage=clientAuth", *extensions)
        leaf = self.t.folder / f"{name}.pem"
        leaf.write_text(leaf.read_text() + (self.t.folder / f"{self.name}.pem").read_text())
        return name

    def key_hash(self):
        public = openssl("x509", "-in", self.t.folder / f"{self.name}.pem", "-noout", "-pubkey")
        der = base64.b64decode(b"".join(public.splitlines()[1:-1]))
        return hashlib.sha256(der).hexdigest()


class Named(EchoServer):
    """Says which backend it is."""

    def __init__(self, t, name):
        self.name = name
        super().__init__(t)

    def serve(self, client, number):
        client.sendall(self.name.encode() + b"\n")
        client.recv(1)


def ask(t, address, who):
    """What the backend says to this client; None: the client was not let in."""
    context = ssl.create_default_context(cafile=t.pki / "root.pem")
    context.load_cert_chain(t.folder / f"{who}.pem", t.folder / f"{who}.key")
    try:
        with context.wrap_socket(connect(address), server_hostname="gateway.example") as client:
            return client.recv(100).decode().strip() or None
    except (ssl.SSLError, OSError):
        return None


def front(t, backend, *blocks):
    """A gateway with these allow blocks, revocation off: the CAs of the scenario have no CRL."""
    text = t.front("front", backend.text, allow_any_valid=None, client_crl=None, revocation="off")
    allows = "".join(f"  allow {{ {block} }}\n" for block in blocks)
    return t.gateway(text[:-2] + allows + "}\n")


def expect(t, gateway, answers, reasons=None):
    address = gateway.address("front")
    for who, wanted in answers.items():
        mark = gateway.mark()
        found = ask(t, address, who)
        check(found == (wanted and wanted[0]), f"{who} reached {found}, not {wanted}")
        if wanted:
            gateway.wait_line(rf"connection ended.*CN={who}\b.*allow={wanted[1]}\b", after=mark)
        else:
            gateway.wait_line(rf"result=refused reason=.*CN={who} .*not authorised: .*{reasons[who]}", after=mark)


@scenario
def each_identity_goes_to_its_own_backend(t):
    ca = Authority(t, "partner")
    ca.client("web", "/CN=web", "subjectAltName=DNS:web.prod.example,URI:spiffe://td/ns/prod/sa/web")
    ca.client("deep", "/CN=deep", "subjectAltName=DNS:a.web.prod.example,URI:spiffe://td/ns/prod/sa/web/x")
    ca.client("alien", "/CN=alien", "subjectAltName=URI:spiffe://td.evil/ns/prod/sa/web")
    ca.client("bank", "/CN=bank/organizationIdentifier=PSDES-BDE-3DFD21")
    ca.client("fake", "/CN=fake/organizationIdentifier=PSDES-BDE-3DFD2")
    usual, spiffe, psd2 = Named(t, "usual"), Named(t, "spiffe"), Named(t, "psd2")
    gateway = front(t, usual, f'uri = "spiffe://td/ns/*/sa/*" backend = "{spiffe.text}" name = "workloads"',
                    'dns = "*.prod.example"',
                    f'organization-identifier = "PSDES-BDE-3DFD21" backend = {{"{psd2.text}"}}',
                    'cn = "deep" ou = "nowhere"')
    expect(t, gateway, {"web": ("spiffe", "workloads"), "bank": ("psd2", "3"), "deep": None, "alien": None, "fake": None},
           {"deep": "allow block workloads: uri .*allow block 2: dns", "alien": "spiffe://td.evil/",
            "fake": "PSDES-BDE-3DFD2"})
    check(usual.accepted == 0, "somebody reached the gateway's own backend")


@scenario
def a_policy_counts_when_the_whole_path_has_it(t):
    """The second CA's client claims the policy in its own certificate; its CA was not given it."""
    good = Authority(t, "good-ca", "/CN=Good CA", "certificatePolicies=1.2.3.4")
    good.client("member", "/CN=member", "certificatePolicies=1.2.3.4")
    good.client("plain", "/CN=plain")
    other = Authority(t, "other", "/CN=Other CA", "certificatePolicies=1.2.3.5")
    other.client("claims", "/CN=claims", "certificatePolicies=1.2.3.4")
    backend = Named(t, "backend")
    gateway = front(t, backend, 'policy = "1.2.3.4"')
    none = "no policy is valid for the whole path"
    expect(t, gateway, {"member": ("backend", "1"), "plain": None, "claims": None}, {"plain": none, "claims": none})


@scenario
def a_ca_of_the_same_name_is_another_ca(t):
    """Both CAs are called the same and are below the same root; the rule names the key of the first."""
    first, second = Authority(t, "first"), Authority(t, "second")
    first.client("one", "/CN=one")
    second.client("two", "/CN=two")
    backend = Named(t, "backend")
    gateway = front(t, backend, f'issuer = "CN=Partner CA" issuer-spki-sha256 = "{first.key_hash()}"')
    expect(t, gateway, {"one": ("backend", "1"), "two": None}, {"two": f"issuer-spki-sha256 {second.key_hash()}"})


if __name__ == "__main__":
    main()

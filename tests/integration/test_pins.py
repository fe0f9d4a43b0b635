#!/usr/bin/env python3
# labels: smoke
"""Partners without a CA, accepted by their exact certificate, and keys that a chain must have besides."""

import base64
import hashlib
import ssl
import subprocess

from harness import EchoServer, OpensslServer, check, connect, exchange, host_port, main, refused, scenario

CONF = """
[req]
distinguished_name = dn
[dn]
[partner]
basicConstraints = CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = {usage}
subjectAltName = DNS:gateway.example
"""


def partner(t, name, days="20", usage="serverAuth", key="rsa:2048"):
    """A self-signed certificate NAME.pem with NAME.key."""
    conf = t.file(name + ".cnf", CONF.format(usage=usage))
    words = ["openssl", "req", "-x509", "-newkey", key, "-nodes", "-keyout", t.folder / f"{name}.key", "-out",
             t.folder / f"{name}.pem", "-subj", f"/CN={name}", "-days", days, "-config", conf, "-extensions", "partner"]
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)
    return str(t.folder / f"{name}.pem")


def pin(path):
    """sha256//BASE64 of the key of the first certificate in a file."""
    text = subprocess.run(["openssl", "x509", "-in", str(path), "-noout", "-pubkey"], check=True, capture_output=True,
                          timeout=60).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=text, check=True, capture_output=True,
                         timeout=60).stdout
    return "sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def expect_refused(agent, name, reason):
    mark = agent.mark()
    check(refused(agent.address(name)), f"{name} got an answer")
    agent.wait_line(rf"tunnel={name}\b.*{reason}", after=mark)


@scenario
def pinned_servers(t):
    """The exact certificate is let in; another one of the same key and name, and one that is bad by itself, are not."""
    good, other = partner(t, "good"), partner(t, "other")
    wrong_use, weak = partner(t, "wrong-use", usage="clientAuth"), partner(t, "weak", key="rsa:1024")
    servers = {name: OpensslServer(t, "-cipher", "ALL:@SECLEVEL=0", certificate=t.folder / f"{name}.pem", key=t.folder / f"{name}.key", mutual=False)
               for name in ("good", "wrong-use", "weak")}
    cases = {"good": ("good", {"pinned_certificate": good}, None),
             "stranger": ("good", {"pinned_certificate": other}, "pin: it is not one of the pinned certificates"),
             "wrong-name": ("good", {"pinned_certificate": good, "server_name": "b.example"}, "not for b.example"),
             "wrong-use": ("wrong-use", {"pinned_certificate": wrong_use}, "does not include serverAuth"),
             "weak": ("weak", {"pinned_certificate": weak}, "algorithms: RSA key of 1024 bits")}
    plain = {"trust": None, "crl": None, "revocation": None}
    agent = t.agent(*[t.tunnel(name, servers[server].text, **{**plain, **options})
                      for name, (server, options, _) in cases.items()])
    check(exchange(agent.address("good"), b"hello\n") == b"olleh\n", "the pinned server was refused: " + agent.tail())
    for name, (_, _, reason) in cases.items():
        if reason:
            expect_refused(agent, name, reason)
    ended = t.run("tokentls", "connect", "--pin-certificate", good, "--server-name", "gateway.example",
                  servers["good"].text, input=b"hello\n")
    check(ended.returncode == 0 and ended.stdout == b"olleh\n", f"connect: {ended.stderr}")
    ended = t.run("tokentls", "connect", "--pin-certificate", other, "--server-name", "gateway.example",
                  servers["good"].text, input=b"hello\n")
    check(ended.returncode == 1 and b"not one of the pinned certificates" in ended.stderr, f"connect: {ended.stderr}")
    ended = t.run("tokentls", "connect", "--pin-certificate", good, "--trust", good, servers["good"].text)
    check(ended.returncode == 2 and b"--trust and --pin-certificate contradict each other" in ended.stderr,
          f"connect: {ended.returncode} {ended.stderr}")


@scenario
def pinned_clients(t):
    good, other = partner(t, "good", usage="clientAuth"), partner(t, "other", usage="clientAuth")
    # a CA knows two of them, and has revoked one: that counts for those who trust the CA
    pinned = t.file("pinned.pem", "".join(path.read_text() for path in (
        t.folder / "good.pem", t.pki / "revoked-cert.pem", t.pki / "expired-cert.pem")))
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text, client_trust=None, client_crl=None, revocation=None,
                                client_pinned_certificate=str(pinned)))
    address = gateway.address("front")

    def present(certificate, key):
        context = ssl.create_default_context(cafile=t.pki / "root.pem")
        context.load_cert_chain(certificate, key)
        try:
            with context.wrap_socket(connect(address), server_hostname="gateway.example") as client:
                client.sendall(b"hello\n")
                return client.recv(100) == b"hello\n"
        except (ssl.SSLError, OSError):
            return False

    check(present(good, t.folder / "good.key"), "the pinned client was refused: " + gateway.tail())
    check(present(t.pki / "revoked.pem", t.pki / "revoked.key"), "a pinned client of some CA was refused")
    bad = {"other": (other, t.folder / "other.key", "CN=other.*pin: it is not one of the pinned certificates"),
           "wrong-eku": (t.pki / "wrong-eku.pem", t.pki / "wrong-eku.key", "not one of the pinned certificates"),
           "expired": (t.pki / "expired.pem", t.pki / "expired.key", "validity: expired, not valid after")}
    for name, (certificate, key, reason) in bad.items():
        mark = gateway.mark()
        check(not present(certificate, key), f"{name} was let in")
        gateway.wait_line(reason, after=mark)
    # another list of partners is taken over without a restart
    mark = gateway.mark()
    t.file("new.pem", (t.folder / "other.pem").read_text()).rename(pinned)
    gateway.wait_line(r" reloaded\b", after=mark)
    address = ("127.0.0.1", int(gateway.wait_line(r"listening gateway=front address=127.0.0.1:(\d+)", after=mark).group(1)))
    check(present(other, t.folder / "other.key"), "the newly pinned client was refused: " + gateway.tail())
    mark = gateway.mark()
    check(not present(good, t.folder / "good.key"), "a client that is pinned no more was let in")
    gateway.wait_line("CN=good.*pin: it is not one of", after=mark)


@scenario
def keys_of_the_chain(t):
    """trust-spki: the leaf's, an intermediate's or the root's key; no chain is good for having it."""
    echo = EchoServer(t)
    gateway = t.gateway(t.front("front", echo.text))
    there = host_port(gateway.address("front"))
    chain = t.file("chain", (t.pki / "ca-chain.pem").read_text())
    cases = {"leaf": ([pin(t.pki / "server.pem")], {}, None),
             "root": ([pin(t.pki / "other-ca.pem"), pin(t.pki / "root.pem")], {}, None),
             "issuer": ([pin(chain)], {}, None),
             "foreign": ([pin(t.pki / "other-ca.pem")], {}, "pin: neither it nor a certificate above it"),
             "no-chain": ([pin(t.pki / "server.pem")], {"trust": str(t.pki / "other-ca.pem")}, "chain: ")}
    agent = t.agent(t.token.identity("client"),
                    *[t.tunnel(name, there, identity="client", trust_spki=pins, **options)
                      for name, (pins, options, _) in cases.items()])
    for name, (_, _, reason) in cases.items():
        if reason:
            expect_refused(agent, name, reason)
        else:
            check(exchange(agent.address(name), b"hello\n") == b"hello\n", f"{name} was refused: " + agent.tail())
    for words, status in ((["--trust-spki", pin(t.pki / "root.pem")], 0),
                          (["--trust-spki", pin(t.pki / "other-ca.pem")], 1), (["--trust-spki", "sha256//x"], 2)):
        ended = t.connect(gateway.address("front"), *words, data=b"hello\n")
        check(ended.returncode == status, f"{words}: exit {ended.returncode}, expected {status}: {ended.stderr}")


if __name__ == "__main__":
    main()

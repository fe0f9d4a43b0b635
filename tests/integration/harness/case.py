"""Scenarios: their registration, the context each is given, and the TAP output."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "mock-module"))
from faults import Faults  # pylint: disable=wrong-import-position
from harness.process import Failure, Process, adopt_orphans, children, deadline, leftovers

SKIP_STATUS = 77
SCENARIOS = []
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
SANITIZER = re.compile(r"(ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:)")


# As scripts/stages.py sets them, for scenarios that are run by hand: tpm2-pkcs11 is to look for no TPM of this machine.
for _name, _value in (("STORE", "/nonexistent"), ("BACKEND", "esysdb"), ("LOG_LEVEL", "0")):
    os.environ.setdefault(f"TPM2_PKCS11_{_name}", _value)


class Skip(Exception):
    """Cannot be tried here; the text says why."""


def scenario(function):
    """Register a scenario; they run in the order of the file."""
    SCENARIOS.append(function)
    return function


def check(condition, text):
    """Like assert, with the text that a reader of the log needs."""
    if not condition:
        raise Failure(text)


class Holder:
    """A token as configurations and command lines name it: `module`, `environment` (a dictionary), `pin_file`, `pin`."""

    def uri(self, label):
        return f"pkcs11:token=demo;object={label}"

    def certificate(self, label):  # pylint: disable=unused-argument
        """The file with the key's certificate chain; None: it is on the token."""
        return None

    def identity(self, name, label=None, **options):
        """An identity block of a configuration. Options replace or, with None, remove the usual ones."""
        values = {"uri": self.uri(label or name), "module": self.module, "pin-source": f"file:{self.pin_file}",
                  "certificate": self.certificate(label or name),
                  "module-environment": [f"{key}={value}" for key, value in self.environment.items()]}
        values.update({key.replace("_", "-"): value for key, value in options.items()})
        return block("identity", name, values)


class Token(Holder):
    """A private copy of the fixture's SoftHSM token and its PIN; with `module`, seen through the fault module."""

    kinds = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521", "ed25519")

    def __init__(self, pki, folder, module=None):
        self.folder = folder
        self.module = module or MODULE
        folder.mkdir(mode=0o700)
        shutil.copytree(pki / "tokens", folder / "tokens")
        self.conf = folder / "softhsm2.conf"
        self.conf.write_text((pki / "softhsm2.conf").read_text().replace(str(pki), str(folder)))
        self.pin_file = folder / "pin"
        shutil.copy(pki / "pin", self.pin_file)
        os.chmod(self.pin_file, 0o600)
        self.pin = self.pin_file.read_text().strip()
        self.environment = {"SOFTHSM2_CONF": str(self.conf)}
        if module:
            self.faults = Faults(folder)
            self.environment.update(self.faults.environment())


def block(kind, name, values):
    """Configuration text: kind "name" { key = value ... }; lists become {..}, None is left out."""
    lines = [f'{kind} "{name}" {{' if name else f"{kind} {{"]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += ["  " + line for line in block(key, None, value).splitlines()]
        elif value is not None:
            lines.append(f"  {key} = {literal(value)}")
    return "\n".join([*lines, "}"]) + "\n"


def literal(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(literal(item) for item in value) + "}"
    return f'"{value}"'


class Daemon(Process):
    """The agent or the gateway. It must end with `expected_status` when it is stopped (None: whatever)."""

    expected_status = 0

    def address(self, name):
        """(host, port) or the path that a tunnel or gateway of this name listens on, once its keys are known."""
        for identity in re.findall(r'^identity "(.*?)"', pathlib.Path(self.argv[-1]).read_text(), re.M):
            self.wait_line(rf"identity state\b.*\bidentity=\"?{re.escape(identity)}\"?(?= |$)")
        match = self.wait_line(rf"listening\b.*\b(?:tunnel|gateway)=\"?{re.escape(name)}\"?(?= |$).*")
        text = re.search(r"\baddress=\"?([^\" ]+)", match.group(0)).group(1)
        if text.startswith("unix:"):
            return text[len("unix:"):]
        host, _, port = text.rpartition(":")
        return host.strip("[]"), int(port)


class Case:
    """What a scenario gets."""

    def __init__(self, stack, folder):
        self.stack = stack
        self.folder = folder
        self.bin = pathlib.Path(os.environ["TOKENTLS_BIN"]).resolve()
        self.pki = pathlib.Path(os.environ["TOKENTLS_PKI"]).resolve()
        self.processes = []
        self.counter = 0
        self._token = None

    @property
    def instrumented(self):
        """The programs run under sanitizers: their memory says nothing."""
        return os.environ.get("TOKENTLS_SLOW", "1") != "1"

    @property
    def token(self):
        if self._token is None:
            self._token = Token(self.pki, self.folder / "token")
        return self._token

    def new_token(self):
        """One more copy."""
        self.counter += 1
        return Token(self.pki, self.folder / f"token-{self.counter}")

    def faulty_token(self):
        """One more copy, behind the module that injects faults: see token.faults and tests/mock-module/README.md."""
        self.counter += 1
        return Token(self.pki, self.folder / f"token-{self.counter}", self.bin.parent / "lib/libtokentls-faults.so")

    def state(self, name="state"):
        path = self.folder / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def file(self, name, text, mode=0o600):
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def program(self, name):
        path = self.bin / name
        if not path.exists():
            raise Failure(f"{path} was not built")
        return path

    def start(self, argv, kind=Process, **options):
        """Start a program that is stopped, and must end in order, when the scenario ends."""
        self.counter += 1
        log = self.folder / f"{self.counter:02}-{pathlib.Path(str(argv[0])).name}.log"
        process = kind(argv, log, **options)
        self.processes.append(process)
        return process

    def config(self, kind, *blocks, **settings):
        """Write KIND.conf from blocks and top-level settings; state-directory is given."""
        self.counter += 1
        settings = {"state-directory": str(self.state()), **{key.replace("_", "-"): settings[key] for key in settings}}
        lines = [f"{key} = {literal(value)}" for key, value in settings.items() if value is not None]
        return self.file(f"{self.counter:02}-{kind}.conf", "\n".join(lines) + "\n" + "\n".join(blocks))

    def daemon(self, name, config, **options):
        return self.start([self.program(name), "--config", config], kind=Daemon, **options)

    def activated(self, name, config, listener):
        """The daemon with a listening socket from a service manager, which calls it systemd:plain."""
        script = (f"exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=plain "
                  'exec "$0" --config "$1"')
        return self.start(["sh", "-c", script, self.program(name), config], kind=Daemon, pass_fds=(listener.fileno(),))

    def agent(self, *blocks, env=None, **settings):
        return self.daemon("tokentls-agent", self.config("agent", *blocks, **settings), env=env)

    def gateway(self, *blocks, env=None, **settings):
        return self.daemon("tokentls-gateway", self.config("gateway", *blocks, **settings), env=env)

    def tunnel(self, name, connect, **options):
        """A tunnel block that trusts the root and has the CRLs of both CAs."""
        values = {"listen": "127.0.0.1:0", "connect": connect, "server-name": "gateway.example",
                  "trust": str(self.pki / "root.pem"), "crl": self.crls(), "revocation": "required"}
        values.update({key.replace("_", "-"): value for key, value in options.items()})
        return block("tunnel", name, values)

    def front(self, name, backend, **options):
        """A gateway block that lets every valid client in."""
        values = {"listen": "127.0.0.1:0", "backend": backend, "certificate": str(self.pki / "server.pem"),
                  "key": str(self.pki / "server.key"), "client-auth": "required",
                  "client-trust": str(self.pki / "root.pem"), "client-crl": self.crls(), "revocation": "required",
                  "allow-any-valid": True}
        values.update({key.replace("_", "-"): value for key, value in options.items()})
        return block("gateway", name, values)

    def crls(self, root="root.crl", intermediate="intermediate.crl"):
        return [str(self.pki / name) for name in (root, intermediate)]

    def run(self, *argv, input=b"", env=None, seconds=20):
        """Run a program of ours to its end; subprocess.CompletedProcess with bytes."""
        words = [str(word) for word in (self.program(argv[0]), *argv[1:])]
        try:
            return subprocess.run(words, input=input, capture_output=True, timeout=deadline(seconds),
                                  env={**os.environ, "XDG_STATE_HOME": str(self.state()), **(env or {})})
        except subprocess.TimeoutExpired as late:
            raise Failure(f"{' '.join(words)} did not end within {deadline(seconds):.0f} s: {late.stderr}") from late

    def connect(self, address, *more, data=b"", label="client", token=None, crls=None, name="gateway.example"):
        """Run `tokentls connect` with the identity `label` of the token (None: one-way) and `data` as its input."""
        token = token or self.token
        identity = ["--identity", token.uri(label), "--module", token.module, "--pin-source",
                    f"file:{token.pin_file}"] if label else []
        if label and token.certificate(label):
            identity += ["--cert", token.certificate(label)]
        lists = [word for path in (self.crls() if crls is None else crls) for word in ("--crl", path)]
        return self.run("tokentls", "connect", "--trust", self.pki / "root.pem", *lists, "--server-name", name,
                        *identity, *more, host_port(address), input=data,
                        env=token.environment)

    def finish(self):
        """Stop everything, newest first, and complain about what did not end in order."""
        wrong = []
        for process in reversed(self.processes):
            try:
                status = process.stop()
                if isinstance(process, Daemon) and process.expected_status not in (None, status):
                    wrong.append(f"{process.name} ended with status {status}, not {process.expected_status}")
            except Failure as failure:
                wrong.append(str(failure))
            finding = SANITIZER.search(process.text())
            if finding:
                wrong.append(f"{process.name}: {finding.group(0)}\n{process.tail(120)}")
        return wrong


def host_port(address):
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run_one(function):
    """Run one scenario in a folder of its own. None, or what went wrong."""
    before = set(children())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tokentls-"))
    wrong = []
    with contextlib.ExitStack() as stack:
        case = Case(stack, folder)
        try:
            function(case)
        except Skip:
            raise
        except Failure as failure:
            wrong.append(str(failure))
        except Exception:  # pylint: disable=broad-except
            wrong.append(traceback.format_exc())
        finally:
            wrong += case.finish()
    wrong += [f"left running: {line}" for line in leftovers(before)]
    if wrong:
        wrong += [f"{process.name} said:\n{process.tail()}" for process in case.processes]
    if not (wrong and os.environ.get("TOKENTLS_KEEP")):
        shutil.rmtree(folder, ignore_errors=True)
    return "\n".join(wrong) or None


def main():
    """Run the scenarios of this file (or those named on the command line)."""
    adopt_orphans()
    chosen = [function for function in SCENARIOS if not sys.argv[1:] or function.__name__ in sys.argv[1:]]
    print(f"1..{len(chosen)}", flush=True)
    failed = skipped = 0
    for number, function in enumerate(chosen, 1):
        try:
            wrong = run_one(function)
        except Skip as skip:
            skipped += 1
            print(f"ok {number} - {function.__name__} # SKIP {skip}", flush=True)
            continue
        if wrong:
            failed += 1
            print("\n".join("# " + line for line in wrong.splitlines()))
        print(f"{'not ok' if wrong else 'ok'} {number} - {function.__name__}", flush=True)
    if failed:
        sys.exit(1)
    sys.exit(SKIP_STATUS if chosen and skipped == len(chosen) else 0)

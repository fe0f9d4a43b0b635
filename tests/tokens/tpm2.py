#!/usr/bin/env python3
"""tpm2-pkcs11 on a software TPM: swtpm, the resource manager tpm2-abrmd and a private D-Bus session bus."""

import pathlib
import socket
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))
from common import LIBRARIES, Failure, Foreign, Tool, command, run, wait  # noqa: E402  pylint: disable=wrong-import-position

ALGORITHMS = {"rsa2048": "rsa2048", "rsa3072": "rsa3072", "p256": "ecc256", "p384": "ecc384", "always": "ecc256"}
BUS = """<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"""


class Tpm2(Foreign):
    """tpm2-pkcs11 with RSA and EC keys; `client-always` wants its PIN for each signature."""

    title = "tpm2-pkcs11"
    kinds = ("rsa2048", "p256", "p384", "always")
    module = str(LIBRARIES / "pkcs11/libtpm2_pkcs11.so")
    needs = ("swtpm:swtpm", "tpm2_ptool:libtpm2-pkcs11-tools", "/usr/sbin/tpm2-abrmd:tpm2-abrmd",
             "dbus-daemon:dbus-daemon", "dbus-send:dbus-bin", f"{module}:libtpm2-pkcs11-1")

    def make(self):
        bus = self.folder / "bus"
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}", "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session",
                            "TPM2_PKCS11_STORE": str(self.folder / "store"), "TPM2_PKCS11_LOG_LEVEL": "0",
                            "TSS2_LOG": "all+NONE"}
        (self.folder / "store").mkdir(mode=0o700)
        self.daemon("dbus-daemon", f"--config-file={self.file('bus.conf', BUS.format(bus))}", "--nofork",
                    "--print-address").wait_line("unix:path")
        port = self.start_tpm()
        broker = self.daemon("/usr/sbin/tpm2-abrmd", "--session", "--allow-root", "--flush-all",
                             f"--tcti=swtpm:host=127.0.0.1,port={port}")
        wait(broker, self.broker_is_on_the_bus)
        self.tool("init")
        self.tool("addtoken", "--pid", "1", "--label", self.token_label, "--sopin", self.pin, "--userpin", self.pin)
        for number, kind in enumerate(self.kinds):
            self.key(f"client-{kind}", kind, chr(ord("a") + number))
        self.reader().store_certificate("intermediate", "7f", self.pki / "intermediate.pem")

    def reader(self):
        return Tool(self.module, self.token_label, self.pin, **self.environment)

    def key(self, label, kind, name):
        """tpm2_ptool takes an id as text: "a" is 61."""
        public = self.folder / f"{label}.pub"
        always = ["--attr-always-authenticate"] if kind == "always" else []
        self.tool("addkey", "--label", self.token_label, "--userpin", self.pin, "--algorithm", ALGORITHMS[kind],
                  "--key-label", label, "--id", name, *always)
        reader = self.reader()
        reader.read_public(label, kind, name.encode().hex(), public)
        reader.store_certificate(label, name.encode().hex(), self.certify(label, public))

    def tool(self, *argv):
        return run("tpm2_ptool", *argv, TPM2TOOLS_TCTI=self.environment["TPM2_PKCS11_TCTI"], **self.environment)

    def start_tpm(self):
        """swtpm takes two ports, the second one after the first, and cannot be told to choose."""
        for _ in range(10):
            port = free_pair()
            (self.folder / "tpm").mkdir(mode=0o700, exist_ok=True)
            ready = self.folder / "tpm" / "pid"
            process = self.daemon("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder / 'tpm'}", "--server",
                                  f"port={port}", "--ctrl", f"type=tcp,port={port + 1}", "--flags",
                                  "not-need-init,startup-clear", "--pid", f"file={ready}")
            try:
                wait(process, ready.exists)
                return port
            except Failure as failure:
                why = failure
        raise why

    def broker_is_on_the_bus(self):
        return "true" in run("dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/",
                             "org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd", **self.environment)


def free_pair():
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            try:
                second.bind(("127.0.0.1", first.getsockname()[1] + 1))
            except (OSError, OverflowError):
                continue
            return first.getsockname()[1]
    raise Failure("no two free ports side by side")


if __name__ == "__main__":
    command(Tpm2, sys.argv)

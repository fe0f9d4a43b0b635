#!/usr/bin/env python3
"""connect --explain: what ended the connection is told in words, with a cause and the next thing to try."""
# labels: smoke

import re
import socket

from harness import OpensslServer, check, main, scenario


def told(done, status, *patterns):
    """The lines under `what to do` of a run that ended with this status match the patterns."""
    text = done.stderr.decode(errors="replace")
    check(done.returncode == status, f"status {done.returncode}, not {status}:\n{text}")
    parts = text.split("== what to do\n")
    check(len(parts) == 2, f"not one `what to do`:\n{text}")
    for word in ("it means", "likely", "try"):
        check(re.search(rf"^   {word}: \S", parts[1], re.MULTILINE), f"no `{word}` in:\n{text}")
    for pattern in patterns:
        check(re.search(pattern, parts[1]), f"/{pattern}/ is not in:\n{parts[1]}")


@scenario
def alerts_of_the_server(t):
    server = OpensslServer(t)
    told(t.connect(server.address, "--explain", label=None), 1, "certificate required", "tokentls list --login")
    told(t.connect(server.address, "--explain", label=None, data=b"", name="gateway.example"), 1, "--identity")
    told(t.connect(server.address, "--explain", "--tls", "1.2", label=None), 1, "handshake failure", "tokentls probe")
    told(t.connect(server.address, "--explain", label="expired"), 1, "certificate expired", "tokentls enroll --renew")
    told(t.connect(server.address, "--explain", label="unknown-ca"), 1, "unknown CA", "tokentls probe --identity")
    fussy = OpensslServer(t, "-alpn", "h2", mutual=False)
    told(t.connect(fussy.address, "--explain", "--alpn", "fix", label=None), 1, "no application protocol", "--alpn NAME")


@scenario
def the_way_there(t):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    told(t.connect(address, "--explain", label=None), 5, "nobody listens there")
    told(t.connect(("nowhere.invalid", 443), "--explain", label=None), 5, "the name|no such name")


@scenario
def the_token(t):
    server = OpensslServer(t)
    for fault, status, pattern in (("initialize__fail", 3, "does not say why"), ("sign__vendor_error", 3, "error of its own"),
                                   ("sign__device_error", 3, "token or the reader failed"),
                                   ("login__pin_incorrect", 4, "PIN is wrong"), ("login__pin_locked", 4, "PIN is blocked"),
                                   ("login__pin_expired", 4, "PIN must be changed")):
        token = t.faulty_token()  # a PIN that was refused is not tried again
        token.faults.set(fault)
        told(t.connect(server.address, "--explain", token=token), status, pattern)


if __name__ == "__main__":
    main()

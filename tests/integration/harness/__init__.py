"""What the scenarios share. A scenario file is

    from harness import main, scenario

    @scenario
    def does_something(t):
        "What must be true, as a sentence."
        ...

    if __name__ == "__main__":
        main()

It is run with TOKENTLS_BIN (folder of the programs) and TOKENTLS_PKI (folder made by softhsm-conf/make-demo), prints TAP
and exits 77 when everything in it was skipped. `t` (harness/case.py) has a folder of its own, a private copy of the
token, and starts and stops processes. Nothing here sleeps: everything waits for an event with a deadline.
"""

from harness.case import MODULE, Daemon, Failure, Skip, block, check, host_port, main, scenario
from harness.peers import EchoServer, GnutlsServer, HttpServer, OpensslServer, connect, exchange, read_all, refused, reset
from harness.process import deadline

__all__ = ["Daemon", "EchoServer", "Failure", "GnutlsServer", "HttpServer", "OpensslServer", "MODULE", "Skip", "block", "check", "connect",
           "deadline", "exchange", "host_port", "main", "read_all", "refused", "reset", "scenario"]

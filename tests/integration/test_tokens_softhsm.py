#!/usr/bin/env python3
# timeout: 300
"""SoftHSM2: every kind of key, with TLS 1.2 and 1.3, through the agent and through `tokentls connect`, against OpenSSL's
server, GnuTLS's server and our gateway, all of which demand a client certificate."""

from harness import main, scenario
from harness.matrix import through_agent, through_connect


@scenario
def the_agent_with_every_key(t):
    through_agent(t, t.token, ("openssl", "gnutls", "gateway"))


@scenario
def connect_with_every_key(t):
    through_connect(t, t.token, ("openssl", "gnutls", "gateway"))


if __name__ == "__main__":
    main()

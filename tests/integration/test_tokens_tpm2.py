#!/usr/bin/env python3
# labels: release
# timeout: 240
"""A TPM through tpm2-pkcs11 (on swtpm): its keys in every client authentication it can do."""

from harness import check, main, scenario
from harness.foreign import given
from harness.matrix import through_agent, through_connect
from tpm2 import Tpm2


@scenario
def the_agent_with_every_key(t):
    through_agent(t, given(t, Tpm2), ("openssl", "gateway"))


@scenario
def connect_with_every_key(t):
    through_connect(t, given(t, Tpm2), ("openssl", "gateway"))


if __name__ == "__main__":
    main()

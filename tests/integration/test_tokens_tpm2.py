#!/usr/bin/env python3
# timeout: 240
"""A TPM through tpm2-pkcs11 (on swtpm): its keys in every client authentication it can do."""

from harness import Skip, check, main, scenario
from harness.foreign import given
from harness.matrix import through_agent, through_connect
from tpm2 import Tpm2


@scenario
def the_agent_with_every_key(t):
    through_agent(t, given(t, Tpm2), ("openssl", "gateway"))


@scenario
def connect_with_every_key(t):
    through_connect(t, given(t, Tpm2), ("openssl", "gateway"))


@scenario
def who_asks_for_all_modules_can_leave_it_out(t):
    """The package adds itself to p11-kit's list of modules; docs/tokens.md says how it is kept from the home folder."""
    if Tpm2.missing():
        raise Skip(Tpm2.missing())
    home = t.folder / "home"
    home.mkdir()
    quiet = {"HOME": str(home), "TPM2_PKCS11_STORE": "/nonexistent", "TPM2_PKCS11_BACKEND": "esysdb"}
    done = t.run("tokentls", "list", env={**t.token.environment, **quiet})
    check(done.returncode == 0 and b"object=client" in done.stdout, f"{done}")
    check(not (home / ".tpm2_pkcs11").exists(), "it made a database in the home folder")


if __name__ == "__main__":
    main()

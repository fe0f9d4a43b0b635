#!/usr/bin/env python3
# timeout: 240
"""openCryptoki's software token: its keys in every client authentication it can do. The test runs in mount and IPC
namespaces of its own, so it neither sees nor changes an openCryptoki of the system."""

from harness import Skip, main, scenario
from harness.foreign import enter_namespaces, given, in_namespaces
from harness.matrix import through_agent, through_connect
from opencryptoki import OpenCryptoki


def token_of(t):
    if not OpenCryptoki.missing() and not in_namespaces():
        raise Skip("openCryptoki: this system lets nobody make a mount namespace, and the test must not touch its tokens")
    return given(t, OpenCryptoki)


@scenario
def every_key_with_the_agent_and_with_connect(t):
    token = token_of(t)
    through_agent(t, token, ("openssl", "gateway"))
    through_connect(t, token, ("openssl", "gateway"))


if __name__ == "__main__":
    enter_namespaces("--mount", "--ipc")
    main()

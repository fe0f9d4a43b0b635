#!/usr/bin/env python3
"""tokentls connect with every kind of key, and with tokens that behave as tokens do: each fault has its status."""
# labels: smoke
# timeout: 240

import shutil

from harness import GnutlsServer, OpensslServer, check, main, scenario

KEYS = ("client-rsa2048", "client-rsa4096", "client-p256", "client-p384", "client-p521", "client-ed25519")
VERSIONS = ("1.2", "1.3")

# Faults with which the connection must succeed all the same, with every kind of key.
BORNE = ("mechanism__no_pss", "mechanism__only_x509", "mechanism__only_hash_rsa", "key__always_authenticate",
         "sign__der_ecdsa", "open_session__single", "initialize__cant_lock", "login__lost_on_interleave",
         "sign__session_invalid times=1", "sign__session_closed times=1", "sign__device_removed times=1",
         "sign__user_not_logged_in times=1", "sign__key_handle_invalid times=1", "slots__wait_blocks", "slots__removable",
         "slots__other_serial", "sign__slow 50")

# Faults that end it: the status and what must be said.
ENDS = (("login__pin_locked", 4, "lock"), ("login__pin_expired", 4, "expired"),
        ("login__pin_not_initialized", 4, "not been set"), ("login__count_low", 4, "try counter is low"),
        ("login__final_try", 4, "one more wrong PIN"), ("login__locked", 4, "locked"),
        ("login__device_removed", 4, "CKR_DEVICE_REMOVED"), ("sign__short", 3, "signature"),
        ("sign__empty", 3, "0 bytes"), ("sign__length_lies", 3, "bytes"), ("sign__wrong_signature", 3, "wrong signature"),
        ("sign__general_error", 3, "CKR_GENERAL_ERROR"), ("sign__function_failed", 3, "CKR_FUNCTION_FAILED"),
        ("sign__vendor_error", 3, "0x80000042"), ("find_objects__none", 3, "no private key fits"),
        ("slots__token_absent", 3, "no token fits"), ("token_info__evil_label", 3, "%1B"),
        ("crash", 3, ""), ("crash_in_init", 3, ""), ("initialize__fail", 3, "CKR_GENERAL_ERROR"))


@scenario
def every_key_with_every_version_against_two_servers(t):
    for kind in (OpensslServer, GnutlsServer):
        server = kind(t)
        for label in KEYS:
            for version in VERSIONS:
                done = t.connect(server.address, "--tls", version, label=label, data=b"abc\n")
                check(done.returncode == 0 and done.stdout == server.answer_to(b"abc\n"),
                      f"{kind.__name__}, {label}, TLS {version}: {done}")


@scenario
def what_tokens_do_is_borne(t):
    server, token = OpensslServer(t), t.faulty_token()
    for label in ("client-rsa2048", "client-p256"):
        for number, fault in enumerate(BORNE):
            token.faults.set(fault)
            done = t.connect(server.address, "--tls", VERSIONS[number % 2], label=label, token=token, data=b"abc\n")
            check(done.returncode == 0 and done.stdout == b"cba\n", f"{fault}, {label}: {done}")
            check(token.faults.since_set("violation concurrent call") == 0, f"{fault}: calls overlapped")
            if "times=1" in fault:
                check(token.faults.since_set(fault.split()[0]) == 1, f"{fault} never struck")


@scenario
def a_key_that_wants_a_pin_for_each_signature_gets_it(t):
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set("key__always_authenticate")
    done = t.connect(server.address, token=token, data=b"abc\n")
    check(done.returncode == 0, str(done))
    check(token.faults.since_set("C_Login context-specific") >= 1, "no context-specific login")


@scenario
def a_token_without_pss_does_tls_1_2_only_and_says_why(t):
    server, token = OpensslServer(t), t.faulty_token()
    token.faults.set("mechanism__only_pkcs1")
    done = t.connect(server.address, "--tls", "1.2", label="client-rsa2048", token=token, data=b"abc\n")
    check(done.returncode == 0 and done.stdout == b"cba\n", str(done))
    done = t.connect(server.address, "--tls", "1.3", label="client-rsa2048", token=token, data=b"abc\n")
    check(done.returncode == 1 and b"signature scheme" in done.stderr, str(done))


@scenario
def what_ends_it_has_its_status_and_reason(t):
    server, token = OpensslServer(t), t.faulty_token()
    for fault, status, text in ENDS:
        token.faults.set(fault)
        done = t.connect(server.address, label="client-p256", token=token, data=b"abc\n")
        said = done.stderr.decode()
        check(done.returncode == status and text in said, f"{fault}: status {done.returncode}, not {status}: {said}")
        check(done.stdout == b"" and token.pin not in said, f"{fault}: {done}")
        logins = token.faults.since_set("C_Login")
        check(status != 4 or logins <= 1, f"{fault}: {logins} logins")
        shutil.rmtree(t.state())  # or the guard would withhold the next fault's login


if __name__ == "__main__":
    main()

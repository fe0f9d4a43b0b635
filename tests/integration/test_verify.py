#!/usr/bin/env python3
# labels: smoke
"""`tokentls verify` with the PKI of the scenarios."""

from harness import check, main, scenario


def verify(t, name, *more, crls=None, trust="root.pem"):
    lists = [word for path in (t.crls() if crls is None else crls) for word in ("--crl", path)]
    return t.run("tokentls", "verify", "--trust", t.pki / trust, "--untrusted", t.pki / "intermediate.pem", *lists, *more,
                 t.pki / f"{name}-cert.pem")


@scenario
def verdicts_are_exit_statuses(t):
    check(verify(t, "good", "--purpose", "client").returncode == 0, "good")
    for name, reason in (("revoked", b"revoked"), ("expired", b"expired"), ("not-yet-valid", b"not valid before"),
                         ("wrong-eku", b""), ("unknown-ca", b"")):
        done = verify(t, name, "--purpose", "client")
        said = done.stdout + done.stderr
        check(done.returncode == 1 and reason in said, f"{name}: {done}")
    check(verify(t, "server", "--purpose", "server", "--hostname", "gateway.example").returncode == 0, "server")
    check(verify(t, "server", "--purpose", "server", "--hostname", "other.example").returncode == 1, "wrong name")
    check(verify(t, "good", crls=[t.pki / "root.crl"]).returncode == 1, "missing CRL")
    check(verify(t, "good", "--revocation", "off", crls=[]).returncode == 0, "revocation off")
    check(verify(t, "good", trust="other-ca.pem").returncode == 1, "another root")


@scenario
def the_time_can_be_chosen(t):
    check(verify(t, "expired", "--time", "2020-06-01T00:00:00Z", "--revocation", "off", crls=[]).returncode == 1,
          "the intermediate was not valid then")
    check(verify(t, "good", "--time", "4102444800", "--revocation", "off", crls=[]).returncode == 1, "in 2100")


@scenario
def unusable_files_are_told_apart(t):
    check(verify(t, "nowhere").returncode == 2, "a file that does not exist")
    t.file("garbage-cert.pem", "this is no certificate\n")
    done = t.run("tokentls", "verify", "--trust", t.pki / "root.pem", t.folder / "garbage-cert.pem")
    check(done.returncode == 1, f"garbage: {done}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# labels: smoke
"""A broken configuration names file, line and the nearest right option; the exit status is 2 and nothing starts."""

from harness import check, main, scenario
from harness.process import children


def refuse(t, name, text, *expected):
    """Start the daemon with this text; each of `expected` must stand in what it says."""
    path = t.file(f"{name}.conf", text)
    before = children()
    done = t.run(f"tokentls-{name}", "--config", path)
    said = done.stderr.decode() + done.stdout.decode()
    check(done.returncode == 2, f"status {done.returncode} for\n{text}\n{said}")
    for part in expected:
        check(part in said, f"{part!r} is not in:\n{said}")
    check(children() == before, "something was started")
    again = t.run(f"tokentls-{name}", "--config", path, "--check")
    check(again.returncode == 2, f"--check gives status {again.returncode}")


def line_of(text, part):
    return f".conf:{text[: text.index(part)].count(chr(10)) + 1}:"


def agent_text(t, **changes):
    return t.token.identity("client") + t.tunnel("tunnel", "127.0.0.1:1", **{"identity": "client", **changes})


@scenario
def misspelt_options_are_named(t):
    text = agent_text(t).replace("server-name", "server-nam")
    refuse(t, "agent", text, line_of(text, "server-nam "), "server-nam", "server-name")
    text = t.front("front", "127.0.0.1:1").replace("client-trust", "client-trsut")
    refuse(t, "gateway", text, line_of(text, "client-trsut"), "client-trust")


@scenario
def broken_references_have_a_line(t):
    text = agent_text(t, identity="cleint")
    refuse(t, "agent", text, line_of(text, 'identity = "cleint"'), "cleint", "client")


@scenario
def syntax_errors_have_a_line(t):
    text = agent_text(t) + "\ntunnel \"x\" {\n"
    refuse(t, "agent", text, "agent.conf:")


@scenario
def repeated_options_are_refused(t):
    text = agent_text(t).replace('  connect = ', '  listen = "127.0.0.1:0"\n  connect = ')
    refuse(t, "agent", text, "agent.conf:", "listen")


@scenario
def open_listeners_need_the_insecure_word(t):
    refuse(t, "agent", agent_text(t, listen="0.0.0.0:0"), "insecure-listen")


@scenario
def a_gateway_must_say_whom_it_lets_in(t):
    refuse(t, "gateway", t.front("front", "127.0.0.1:1", allow_any_valid=None), "allow-any-valid")


@scenario
def files_that_are_missing_are_named(t):
    refuse(t, "agent", agent_text(t, trust=str(t.folder / "nowhere.pem")), "nowhere.pem")
    refuse(t, "gateway", t.front("front", "127.0.0.1:1", key=str(t.folder / "nowhere.key")), "nowhere.key")


@scenario
def a_key_that_does_not_fit_the_certificate_is_refused(t):
    refuse(t, "gateway", t.front("front", "127.0.0.1:1", key=str(t.pki / "intermediate.key")), "key")


@scenario
def ticket_keys_that_cannot_be_used_are_refused(t):
    keys = t.file("ticket-keys", "# none yet\nsecret\n")
    text = t.front("front", "127.0.0.1:1", ticket_keys=str(keys))
    refuse(t, "gateway", text, "ticket-keys:2: not 80 bytes in base64")
    keys.chmod(0o644)
    refuse(t, "gateway", text, "ticket-keys: open to group or others (mode 0644): chmod 600")
    refuse(t, "gateway", t.front("front", "127.0.0.1:1", ticket_keys=str(t.folder / "nowhere")), "nowhere: No such file")
    text = t.front("front", "127.0.0.1:1", ticket_keys=str(keys), session_tickets=False)
    refuse(t, "gateway", text, line_of(text, "ticket-keys ="), "ticket-keys has no effect with session-tickets = false")
    text = t.token.identity("client") + t.front("front", "127.0.0.1:1", ticket_keys=str(t.token.pin_file))
    refuse(t, "gateway", text, "the PIN file of identity")


@scenario
def a_gateway_must_say_which_balancers_it_believes(t):
    for options, *expected in (({"accept_proxy": True}, "accept-proxy =", "give accept-proxy-from"),
                               ({"accept_proxy_from": "10.0.0.0/8"}, "accept-proxy-from =", "has no effect without accept-proxy"),
                               ({"accept_proxy": True, "accept_proxy_from": ["10.0.0.1/8"]}, "accept-proxy-from =",
                                "bits beyond the prefix"),
                               ({"accept_proxy": True, "accept_proxy_from": ["lb.example"]}, "accept-proxy-from =",
                                "not an IP address"),
                               ({"accept_proxy": True, "accept_proxy_from": "::1", "listen": f"unix:{t.folder}/s"},
                                "accept-proxy-from =", "no effect on a UNIX socket")):
        text = t.front("front", "127.0.0.1:1", **options)
        refuse(t, "gateway", text, line_of(text, expected[0]), expected[1])


@scenario
def durations_without_a_unit_are_refused(t):
    text = agent_text(t, idle_timeout="10")
    refuse(t, "agent", text, line_of(text, "idle-timeout"), "idle-timeout")


@scenario
def a_good_configuration_passes_the_check(t):
    path = t.file("agent.conf", f'state-directory = "{t.state()}"\n' + agent_text(t))
    done = t.run("tokentls-agent", "--config", path, "--check")
    check(done.returncode == 0, f"{done}")


@scenario
def a_missing_file_is_status_2(t):
    for name in ("tokentls-agent", "tokentls-gateway"):
        done = t.run(name, "--config", t.folder / "none.conf")
        check(done.returncode == 2 and b"none.conf" in done.stderr, f"{done}")
        check(t.run(name).returncode == 2, "no --config")
        check(t.run(name, "--confg", "x").returncode == 2, "unknown option")
        check(t.run(name, "--help").returncode == 0, "--help")


if __name__ == "__main__":
    main()

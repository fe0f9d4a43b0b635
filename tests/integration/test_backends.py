#!/usr/bin/env python3
"""Servers that others have written understand our PROXY headers: haproxy and nginx."""

import os
import shutil
import socket

from harness import Skip, check, exchange, host_port, main, scenario

REQUEST = b"GET / HTTP/1.0\r\nHost: backend.example\r\n\r\n"


def need(program):
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not found:
        raise Skip(f"{program} is not installed: scripts/install")
    return found


def ask_through(t, backend, *clients, **options):
    """What the backend answers to each client, and the port at the gateway's end that it is to have seen."""
    gateway = t.gateway(t.front("front", backend, forward="proxy-v2", client_auth="optional", **options))
    address = gateway.address("front")
    agent = t.agent(t.token.identity("client-rsa4096"), t.tunnel("client", host_port(address), identity="client-rsa4096"),
                    t.tunnel("nobody", host_port(address)))
    return address[1], gateway, [exchange(agent.address(client), REQUEST) for client in clients]


@scenario
def haproxy_reads_the_header(t):
    listener = t.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    config = t.file("haproxy.cfg", f"""
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 60s
frontend f
  bind fd@{listener.fileno()} accept-proxy
  http-request return status 200 content-type text/plain lf-string "src=%[src] port=%[src_port] dst=%[dst_port] authority=%[fc_pp_authority] end"
""")
    t.start([need("haproxy"), "-db", "-f", config], pass_fds=(listener.fileno(),))
    here, gateway, answers = ask_through(t, f"127.0.0.1:{listener.getsockname()[1]}", "client", "nobody")
    for answer in answers:
        words = answer.rpartition(b"\r\n")[2].decode().split()
        check(f"dst={here}" in words and "authority=gateway.example" in words and "src=127.0.0.1" in words, f"{answer}")
    for answer in answers:
        seen = answer.rpartition(b"port=")[2].split()[0].decode()
        gateway.wait_line(rf"connection ended.*peer=127\.0\.0\.1:{seen}\b")


@scenario
def nginx_reads_the_header(t):
    """Its buffer for the first bytes of a connection must have room for the header; by default it has 1 KiB."""
    program = need("nginx")
    servers = {"large": "client_header_buffer_size 16k;", "small": ""}
    blocks = "".join(f"""
  server {{
    listen unix:{t.folder}/{name}.sock proxy_protocol;
    {option}
    location / {{ return 200 "addr=$proxy_protocol_addr port=$proxy_protocol_port dst=$proxy_protocol_server_port end"; }}
  }}""" for name, option in servers.items())
    temporary = "".join(f"  {kind}_temp_path {t.folder}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = t.file("nginx.conf", f"""
daemon off; master_process off; pid {t.folder}/nginx.pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  access_log off;
{temporary}{blocks}
}}
""")
    nginx = t.start([program, "-p", t.folder, "-c", config])
    nginx.wait_line(r"OS: Linux")
    for name, options in (("large", {}), ("small", {"forward_certificate": False})):
        here, gateway, answers = ask_through(t, f"unix:{t.folder}/{name}.sock", "client", "nobody", **options)
        for answer in answers:
            check(f"dst={here} end".encode() in answer and b"addr=127.0.0.1 " in answer, f"{name}: {answer}")
            seen = answer.rpartition(b"port=")[2].split()[0].decode()
            gateway.wait_line(rf"connection ended.*peer=127\.0\.0\.1:{seen}\b")


if __name__ == "__main__":
    main()

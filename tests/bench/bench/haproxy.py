"""haproxy as a TLS client. Debian's has no engine support, and a server line takes its key from a file only."""

from bench.programs import Program, Running, fill, first_line
from bench.scene import SERVER_NAME, free_port

CONFIG = """
global
  nbthread {threads}
  maxconn {connections}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen bench
  bind 127.0.0.1:{port}
  server upstream 127.0.0.1:{upstream} ssl crt {chain} ca-file {trust} verify required verifyhost {name} sni str({name}){more}
"""


class Haproxy(Program):
    name = "haproxy"
    note = "key in a FILE, not on the token: it has no engine support"

    def version(self):
        return first_line(("haproxy", "-v"), r"HAProxy version [\d.]+")

    def start(self, folder, scene):
        port = free_port()
        best = not scene.defaults
        both = folder / "client.pem"
        both.write_text(scene.chain.read_text() + scene.site.key_file(scene.key).read_text())
        both.chmod(0o600)
        more = f" ssl-min-ver TLSv{scene.tls} ssl-max-ver TLSv{scene.tls}" if best and scene.tls != "any" else ""
        if best and not scene.resumption:
            more += " no-ssl-reuse"
        config = folder / "haproxy.cfg"
        config.write_text(fill(CONFIG, threads=scene.workers if best else None, connections=scene.connections + 100,
                               port=port, upstream=scene.upstream, chain=both, trust=scene.site.pki / "root.pem",
                               name=SERVER_NAME, more=more))
        return Running(["haproxy", "-f", config], folder / "haproxy.log", port)

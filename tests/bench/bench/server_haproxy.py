"""haproxy as a TLS server, with its master process, which a reload takes."""

import signal

from bench.gateway_scene import RunningServer, Server
from bench.programs import fill, first_line
from bench.scene import free_port

CONFIG = """
global
  nbthread {workers}
  maxconn {connections}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen bench
  bind 127.0.0.1:{port} backlog 4096 ssl crt {both} ca-file {trust} verify required ssl-min-ver TLSv{tls} ssl-max-ver TLSv{tls}{more}
  server backend 127.0.0.1:{backend}
"""


class RunningHaproxy(RunningServer):
    reload_signal = signal.SIGUSR2


class HaproxyServer(Server):
    name = "haproxy"

    def version(self):
        return first_line(("haproxy", "-v"), r"HAProxy version [\d.]+")

    def serve(self, folder, scene):
        port = free_port()
        both = folder / "server.pem"
        both.write_text(scene.certificate.read_text() + scene.server_key.read_text())
        both.chmod(0o600)
        more = f" crl-file {scene.crl}" if scene.crl else ""
        more += "" if scene.resumption else " no-tls-tickets"
        config = folder / "haproxy.cfg"
        config.write_text(fill(CONFIG, workers=scene.workers, connections=scene.connections + 100, port=port, both=both,
                               trust=scene.trust, tls=scene.tls, more=more, backend=scene.backend))
        return RunningHaproxy(["haproxy", "-W", "-f", config], folder / "haproxy.log", port)

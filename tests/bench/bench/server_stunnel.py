"""stunnel as a TLS server: a thread for each connection."""

from bench.gateway_scene import RunningServer, Server
from bench.programs import fill, first_line
from bench.scene import free_port

CONFIG = """
foreground = yes
pid =
debug = {debug}
[bench]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{backend}
cert = {certificate}
key = {key}
CAfile = {trust}
CRLfile = {crl}
verifyChain = yes
sslVersion = TLSv{tls}
sessionResume = {resume}
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
"""
DONE = "Configuration successful"


class RunningStunnel(RunningServer):
    def reload(self):
        self.before = self.text().count(DONE)
        self.child.send_signal(self.reload_signal)

    def reloaded(self):
        return self.text().count(DONE) > self.before


class StunnelServer(Server):
    name = "stunnel"

    def version(self):
        return first_line(("stunnel4", "-version"), r"stunnel [\d.]+")

    def serve(self, folder, scene):
        port = free_port()
        config = folder / "stunnel.conf"
        config.write_text(fill(CONFIG, port=port, backend=scene.backend, certificate=scene.certificate,
                               key=scene.server_key, trust=scene.trust, crl=scene.crl, tls=scene.tls,
                               resume="yes" if scene.resumption else "no",
                               debug="notice" if scene.reloads else "warning"))
        return RunningStunnel(["stunnel4", config], folder / "stunnel.log", port)

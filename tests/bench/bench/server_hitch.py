"""hitch, which checks clients' certificates but takes no CRL."""

import os

from bench.gateway_scene import RunningServer, Server
from bench.programs import fill, first_line
from bench.scene import free_port

USER = '"nobody"'  # hitch refuses to serve as root

CONFIG = """
frontend = "[127.0.0.1]:{port}"
backend = "[127.0.0.1]:{backend}"
pem-file = "{both}"
tls-protos = TLSv{tls}
client-verify = required
client-verify-ca = "{trust}"
workers = {workers}
backlog = 4096
keepalive = 3600
daemon = off
ocsp-dir = ""
user = {user}
"""


class HitchServer(Server):
    name = "hitch"
    takes_crls = False

    def version(self):
        return first_line(("hitch", "--version"), r"hitch [\d.]+")

    def serve(self, folder, scene):
        port = free_port()
        both = folder / "server.pem"
        both.write_text(scene.server_key.read_text() + scene.certificate.read_text())
        both.chmod(0o600)
        config = folder / "hitch.conf"
        config.write_text(fill(CONFIG, port=port, backend=scene.backend, both=both, tls=scene.tls, trust=scene.trust,
                               workers=scene.workers, user=USER if os.geteuid() == 0 else None))
        return RunningServer(["hitch", f"--config={config}"], folder / "hitch.log", port)

"""tokentls-gateway."""

import dataclasses

from bench.gateway_scene import RunningServer, Server
from bench.programs import first_line
from bench.scene import free_port
from harness.case import block, literal


class Gateway(Server):
    name = "tokentls"
    ours = True

    def __init__(self, build):
        self.program = build / "bin/tokentls-gateway"

    def version(self):
        return first_line((str(self.program), "--version"), r"\S.*")

    def serve(self, folder, scene):
        port = free_port()
        service = {"listen": f"127.0.0.1:{port}", "backend": f"127.0.0.1:{scene.backend}",
                   "certificate": str(scene.certificate), "key": str(scene.server_key), "client-trust": str(scene.trust),
                   "client-crl": [str(scene.crl)] if scene.crl else None,
                   "revocation": "required" if scene.crl else "off", "allow-any-valid": True, "tls": scene.tls,
                   "session-tickets": scene.resumption, "max-connections": scene.connections + 100}
        top = {"state-directory": str(folder / "state"), "workers": scene.workers}
        config = folder / "gateway.conf"
        config.write_text("".join(f"{key} = {literal(value)}\n" for key, value in top.items())
                          + block("log", None, {"level": "warning"}) + block("gateway", "bench", service))
        return RunningServer([self.program, "--config", config], folder / "gateway.log", port)


class GatewayWithoutCrl(Gateway):
    """The same without a CRL, to compare with."""

    name = "tokentls without CRL"
    ours = False

    def conditions(self, scene):
        return dataclasses.replace(scene, entries=None)

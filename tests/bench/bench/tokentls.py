"""tokentls-agent, as in scenes of the agent."""

from bench.programs import Program, Running, first_line
from bench.scene import SERVER_NAME, free_port
from harness.case import block, literal


class Agent(Program):
    name = "tokentls"
    ours = True

    def __init__(self, build):
        self.program = build / "bin/tokentls-agent"

    def version(self):
        return first_line((str(self.program), "--version"), r"\S.*")

    def start(self, folder, scene):
        port = free_port()
        identity = {"uri": scene.uri, "module": scene.module,
                    "pin-source": f"file:{scene.site.pin_file}", "certificate": str(scene.chain),
                    "module-environment": [f"{name}={value}" for name, value in scene.environment.items()]}
        tunnel = {"listen": f"127.0.0.1:{port}", "connect": f"127.0.0.1:{scene.upstream}", "identity": "client",
                  "server-name": SERVER_NAME, "trust": str(scene.site.pki / "root.pem"), "revocation": "off"}
        top = {"state-directory": str(folder / "state")}
        text = block("identity", "client", identity)
        if scene.connections > 1024:
            tunnel["max-connections"] = scene.connections + 100
        if not scene.defaults:
            top["workers"] = scene.workers
            tunnel.update({"tls": scene.tls, "resumption": scene.resumption})
            text += block("log", None, {"level": "warning"})
        if scene.warm:
            tunnel["warm"] = scene.warm
        config = folder / "agent.conf"
        config.write_text("".join(f"{key} = {literal(value)}\n" for key, value in top.items()) + text
                          + block("tunnel", "bench", tunnel))
        scene.prepare_token()
        return Running([self.program, "--config", config], folder / "agent.log", port)

"""stunnel as a TLS client, with the key on the token through the pkcs11 engine."""

from bench.programs import Program, Running, fill, first_line
from bench.scene import SERVER_NAME, free_port

CONFIG = """
foreground = yes
pid =
engine = pkcs11
engineCtrl = MODULE_PATH:{module}
engineCtrl = PIN:{pin}
debug = {debug}
[bench]
client = yes
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{upstream}
engineId = pkcs11
cert = {chain}
key = {uri}
CAfile = {trust}
verifyChain = yes
checkHost = {server_name}
sslVersion = {tls}
sessionResume = {resume}
socket = l:TCP_NODELAY={nodelay}
socket = r:TCP_NODELAY={nodelay}
"""


class Stunnel(Program):
    name = "stunnel"

    def version(self):
        return first_line(("stunnel4", "-version"), r"stunnel [\d.]+")

    def start(self, folder, scene):
        port = free_port()
        best = not scene.defaults
        config = folder / "stunnel.conf"
        config.write_text(fill(
            CONFIG, module=scene.module, pin=scene.site.pin, port=port, upstream=scene.upstream, chain=scene.chain,
            uri=scene.uri, trust=scene.site.pki / "root.pem", server_name=SERVER_NAME,
            debug="warning" if best else None, tls=f"TLSv{scene.tls}" if best and scene.tls != "any" else None,
            resume=("yes" if scene.resumption else "no") if best else None, nodelay=1 if best else None))
        config.chmod(0o600)
        scene.prepare_token()
        return Running(["stunnel4", config], folder / "stunnel.log", port, scene.environment)

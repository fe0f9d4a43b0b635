"""nginx's stream module as a TLS client, with the key on the token through the pkcs11 engine."""

from bench.programs import Program, Running, fill, first_line
from bench.scene import SERVER_NAME, free_port

CONFIG = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes {workers};
worker_rlimit_nofile {files};
env SOFTHSM2_CONF;
env PKCS11_MODULE_PATH;
env TOKENTLS_FAULTS;
env TOKENTLS_FAULTS_COUNTERS;
ssl_engine pkcs11;
events { worker_connections {files}; }
stream {
  server {
    listen 127.0.0.1:{port};
    proxy_pass 127.0.0.1:{upstream};
    proxy_timeout 1h;
    proxy_ssl on;
    proxy_ssl_certificate {chain};
    proxy_ssl_certificate_key "engine:pkcs11:{uri};pin-value={pin}";
    proxy_ssl_trusted_certificate {trust};
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 3;
    proxy_ssl_server_name on;
    proxy_ssl_name {server_name};
    proxy_ssl_protocols {tls};
    proxy_ssl_session_reuse {reuse};
  }
}
"""


class Nginx(Program):
    name = "nginx"

    def version(self):
        return first_line(("nginx", "-v"), r"nginx/[\d.]+")

    def start(self, folder, scene):
        port = free_port()
        best = not scene.defaults
        config = folder / "nginx.conf"
        config.write_text(fill(
            CONFIG, folder=folder, port=port, upstream=scene.upstream, chain=scene.chain, uri=scene.uri,
            pin=scene.site.pin, trust=scene.site.pki / "root.pem", server_name=SERVER_NAME,
            workers=scene.workers if best else "auto", files=2 * scene.connections + 100 if scene.connections > 1024
            else 4096, tls=f"TLSv{scene.tls}" if best and scene.tls != "any" else None,
            reuse=("on" if scene.resumption else "off") if best else None))
        config.chmod(0o600)
        scene.prepare_token()
        return Running(["nginx", "-p", folder, "-c", config, "-e", "stderr"], folder / "nginx.log", port,
                       {**scene.environment, "PKCS11_MODULE_PATH": scene.module})

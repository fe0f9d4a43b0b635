"""nginx's stream module as a TLS server."""

from bench.gateway_scene import RunningServer, Server
from bench.programs import fill, first_line
from bench.scene import free_port

CONFIG = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes {workers};
worker_rlimit_nofile {files};
events { worker_connections {files}; }
stream {
  server {
    listen 127.0.0.1:{port} ssl backlog=4096;
    proxy_pass 127.0.0.1:{backend};
    proxy_timeout 1h;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv{tls};
    ssl_client_certificate {trust};
    ssl_verify_client on;
    ssl_verify_depth 3;
    ssl_crl {crl};
    ssl_session_tickets {tickets};
  }
}
"""


class NginxServer(Server):
    name = "nginx"

    def version(self):
        return first_line(("nginx", "-v"), r"nginx/[\d.]+")

    def serve(self, folder, scene):
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(fill(CONFIG, folder=folder, workers=scene.workers, files=4 * scene.connections, port=port,
                               backend=scene.backend, certificate=scene.certificate, key=scene.server_key, tls=scene.tls,
                               trust=scene.trust, crl=scene.crl, tickets="on" if scene.resumption else "off"))
        return RunningServer(["nginx", "-p", folder, "-c", config, "-e", "stderr"], folder / "nginx.log", port)

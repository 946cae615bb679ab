# SPDX-License-Identifier: Apache-2.0
"""Keep-alive HTTP: nginx at one end, wrk at the other, both on one core."""

import subprocess

from lab import CPU, HTTP_PORT, address_of
from tendril import wait_for
from workload import Workload, workload

CONNECTIONS = 16
SECONDS = 1
CONFIG = """daemon off; master_process off; worker_processes 1; pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
	access_log off; keepalive_requests 1000000000; client_body_temp_path {folder};
	proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
	scgi_temp_path {folder};
	server {{ listen {port}; listen [::]:{port}; location / {{ return 200 "{body}"; }} }}
}}
"""


@workload
class Http(Workload):
    name, figures = "http", {"http": "1/s"}
    title = f"HTTP requests over {CONNECTIONS} keep-alive connections, nginx and wrk"
    more_is_better = ("http",)
    rounds, rounds_limit = 3, 12  # of a second each: wrk knows nothing shorter

    def setup(self, lab, variant, n):
        pair = lab.pair(variant)
        folder = lab.folder()
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, port=HTTP_PORT, body="x" * 128))
        server = pair.servers[0]
        lab.process(server.enter("taskset", "-c", CPU, "nginx", "-p", folder, "-c", config),
                    pair.preexec, stderr=subprocess.DEVNULL)
        wait_for(lambda: f":{HTTP_PORT}" in server.run("ss", "-Hltn").stdout, "nginx")
        return pair

    def measure(self, target, family, n):
        address = address_of(target.addresses, family)
        host = f"[{address}]" if family == 6 else address
        done = subprocess.run(
            target.client.enter("taskset", "-c", CPU, "wrk", "-t1", f"-c{CONNECTIONS}",
                                f"-d{SECONDS}s", f"http://{host}:{HTTP_PORT}/"),
            capture_output=True, text=True, check=True, timeout=30, preexec_fn=target.preexec)
        words = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        if "Non-2xx or 3xx responses" in done.stdout or "Socket errors" in done.stdout:
            raise RuntimeError(f"wrk to {host} of {target.variant}: {done.stdout}")
        return float(words["Requests/sec"])

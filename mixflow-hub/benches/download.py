"""Times a download of `cargo xtask download` and of Python's huggingface_hub from a server with a slow line.

    cargo build --bin mixflow
    python3 mixflow-hub/benches/download.py target/debug/mixflow --files 6 --megabytes 8 --rate 4
    python3 mixflow-hub/benches/download.py target/debug/mixflow --files 8 --megabytes 125 --delay 50
    python3 mixflow-hub/benches/download.py target/debug/mixflow --files 4 --megabytes 125 --xet target/xet/bin/local_cas_server

The server is one on loopback that speaks as the Hub does: `--rate` limits each connection, in MB a second, `--delay` waits
before each answer, in ms. With `--xet` the files are in Xet, in the store that `.ci/xet` builds, which neither of them slows.
Clients take turns, each with an empty cache. The memory is the largest that was resident.
"""

import argparse
import atexit
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program", help="the command line of mixflow")
parser.add_argument("--files", type=int, default=6)
parser.add_argument("--megabytes", type=float, default=8, help="of a file")
parser.add_argument("--rate", type=float, default=0, help="MB a second of a connection; 0 is no limit")
parser.add_argument("--delay", type=float, default=0, help="ms before each answer")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--xet", help="the program local_cas_server of xet-client")
arguments = parser.parse_args()

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 1 << 18
size = int(arguments.megabytes * 1e6)
# No two chunks alike: Xet would have them once.
content = (lambda i: random.Random(i).randbytes(size)) if arguments.xet else (lambda i: bytes([i]) * size)
files = {f"model-{i:05}.safetensors": content(i) for i in range(arguments.files)}
hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
contents = {hashes[name]: content for name, content in files.items()}


def put(store):
    """Puts the files into the store; gives their hashes there."""
    import hf_xet

    with hf_xet.XetSession().new_upload_commit(endpoint=store, token="granted", token_expiry_unix_secs=9_999_999_999) as commit:
        handles = {name: commit.start_upload_bytes(content) for name, content in files.items()}
    return {name: handle.result().xet_info.hash for name, handle in handles.items()}


store, xet = None, {}
if arguments.xet:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"http://127.0.0.1:{port}"
    program = subprocess.Popen([arguments.xet, "--in-memory", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(program.kill)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    xet = put(store)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


plain = 0


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def start(self, status, length, headers):
        time.sleep(arguments.delay / 1e3)
        self.send_response(status)
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.startswith("/store/"):
            global plain
            plain += 1
            return self.content(contents[path.removeprefix("/store/")])
        name = path.rsplit("/", 1)[1]
        if "/resolve/" in path:
            headers = {
                "Location": f"{storage}/store/{hashes[name]}?Signature=signed",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashes[name]}"',
                "X-Linked-Size": len(files[name]),
            }
            return self.start(302, 0, headers)
        if "/tree/" in path:
            entry = lambda name: {"oid": hashes[name], "size": len(files[name]), "pointerSize": 134}
            found = [
                {"type": "file", "oid": "0" * 40, "size": len(files[name]), "path": name, "lfs": entry(name)}
                | ({"xetHash": xet[name]} if xet else {})
                for name in files
            ]
        elif "/xet-read-token/" in path:
            found = {"casUrl": store, "accessToken": "granted", "exp": 9_999_999_999}
        else:
            siblings = [{"rfilename": name} for name in files]
            found = {"_id": "1", "id": "org/name", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        body = json.dumps(found).encode()
        granted = {"X-Xet-Cas-Url": store, "X-Xet-Access-Token": "granted", "X-Xet-Token-Expiration": 9_999_999_999}
        self.start(200, len(body), {"Content-Type": "application/json"} | (granted if store else {}))
        self.wfile.write(body)

    def content(self, whole):
        first, end = 0, len(whole)
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            first, end = int(first), int(last) + 1 if last else end
        headers = {"Content-Range": f"bytes {first}-{end - 1}/{len(whole)}"} if asked else {}
        self.start(206 if asked else 200, end - first, {"Accept-Ranges": "bytes", **headers})
        began, view = time.monotonic(), memoryview(whole)
        for at in range(first, end, BLOCK):
            self.wfile.write(view[at : min(at + BLOCK, end)])
            if arguments.rate:
                due = began + (min(at + BLOCK, end) - first) / (arguments.rate * 1e6)
                time.sleep(max(0, due - time.monotonic()))


servers = [Server(("127.0.0.1", 0), Answer) for _ in range(2)]
endpoint, storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def resident(pid):
    """MiB, the most so far: what a process inherits before it becomes another program counts in `wait4`."""
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), default=0)


PYTHON = "from huggingface_hub import snapshot_download; snapshot_download('org/name')"
clients = {
    "mixflow": [arguments.program, "download", "org/name"],
    "huggingface_hub": [sys.executable, "-c", PYTHON],
}
print(f"{len(files)} files of {size / 1e6:g} MB, {arguments.rate or 'any'} MB/s a connection, {arguments.delay:g} ms delay")
times, memory = {name: [] for name in clients}, dict.fromkeys(clients, 0)
for _ in range(arguments.rounds):
    for name, command in clients.items():
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1"}
            environment.pop("HF_HUB_CACHE", None)
            began = time.monotonic()
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
                while client.poll() is None:
                    memory[name] = max(memory[name], resident(client.pid))
                    time.sleep(0.02)
            assert client.returncode == 0, name
            times[name].append(time.monotonic() - began)
for name, seconds in times.items():
    best = f"{min(seconds):.2f} s, the best of {', '.join(f'{second:.2f}' for second in seconds)}"
    print(f"{name:<16} {best}; {memory[name]} MiB")
if store:
    print(f"{plain} requests to the storage server")

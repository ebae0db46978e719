"""Times `mixflow publish` of a run with large weights, again where nothing is to be done, and says what memory it takes.

    cargo build --bin mixflow
    python3 mixflow-hub/benches/publish.py target/debug/mixflow --megabytes 350
    python3 mixflow-hub/benches/publish.py target/debug/mixflow --megabytes 1000

The server is one on loopback that speaks as the Hub does, and forgets what large files hold. The run is one of a SiT with
random weights; its sample images take time and the memory of the network. `huggingface_hub` uploads the same files.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program", help="the command line of mixflow")
parser.add_argument("--megabytes", type=float, default=350, help="of weights, about")
arguments = parser.parse_args()

WIDTH, SMALL = 768, 24  # of the network, and of the one that lends it the names of its tensors


class State:
    sizes, files, commits = {}, {}, 0


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, **headers):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": len(body), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), str(text))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.endswith("/whoami-v2"):
            self.answer({"type": "user", "name": "org", "auth": {"accessToken": {"displayName": "bench", "role": "write"}}})
        elif "/tree/" in path:
            self.answer([{"type": "file", "path": name, **file} for name, file in sorted(State.files.items())])
        elif "/revision/" in path or path.endswith("/api/models/org/name"):
            found = {"_id": "1", "id": "org/name", "sha": f"{State.commits:040x}", "private": False, "tags": []}
            self.answer({**found, "siblings": [{"rfilename": name} for name in State.files]})
        else:
            self.answer({"error": "no such page"}, 404)

    def do_POST(self):
        path, body = self.path.split("?")[0], self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path.endswith("/repos/create"):
            self.answer({"error": "You already created this model repo", "url": f"{endpoint}/org/name"}, 409)
        elif path.endswith("/validate-yaml"):
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            oid = lambda name: State.files.get(name, {}).get("lfs", State.files.get(name, {})).get("oid")
            mode = lambda name: "lfs" if name.endswith(".safetensors") else "regular"
            sort = lambda name: {"path": name, "uploadMode": mode(name), "shouldIgnore": False, "oid": oid(name)}
            self.answer({"files": [sort(file["path"]) for file in json.loads(body)["files"]]})
        elif path.endswith("/objects/batch"):
            objects = []
            for object in json.loads(body)["objects"]:
                if object["oid"] not in State.sizes:
                    object["actions"] = {"upload": {"href": f"{storage}/{object['oid']}"}}
                objects.append(object)
            self.answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(value["content"])
                    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                    State.files[value["path"]] = {"oid": oid, "size": len(content)}
                elif line["key"] == "lfsFile":
                    oid, size = value["oid"], State.sizes[value["oid"]]
                    lfs = {"oid": oid, "size": size, "pointerSize": 134}
                    State.files[value["path"]] = {"oid": oid[:40], "size": size, "lfs": lfs}
                elif line["key"] == "deletedFile":
                    del State.files[value["path"]]
            State.commits += 1
            commit = f"{State.commits:040x}"
            self.answer({"success": True, "commitOid": commit, "commitUrl": f"{endpoint}/org/name/commit/{commit}"})
        else:
            self.answer({"error": "no such page"}, 404)

    def do_PUT(self):
        left = size = int(self.headers["Content-Length"])
        digest = hashlib.sha256()
        while left:
            block = self.rfile.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block)
        State.sizes[digest.hexdigest()] = size
        self.answer({}, ETag='"1"')


servers = [ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2)]
endpoint, storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
for server in servers:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def watched(command, **environment):
    """Seconds, and the largest resident set in MB, of which the second number is no page of a file."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peaks, began = [0, 0], time.monotonic()
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except FileNotFoundError:
            break
        for place, key in enumerate(["VmHWM", "RssAnon"]):
            found = re.search(rf"{key}:\s*(\d+) kB", status)
            peaks[place] = max(peaks[place], int(found[1]) * 1024 if found else 0)
        time.sleep(0.005)
    seconds, said = time.monotonic() - began, process.stdout.read().decode()
    if process.wait():
        sys.exit(said)
    return seconds, *(round(peak / 1e6) for peak in peaks)


def make(run):
    """A run of a network of the wanted size, with the names that a small one has."""
    sizes = [f"network.width={SMALL}", "network.depth=1", "network.heads=1", f"network.hidden={4 * SMALL}"]
    sets = [*sizes, "post_training=null", "training.steps=1", "training.batch=2", "sampling.grid.steps=2"]
    command = [arguments.program, "train", "digits", "--out", run, *(word for change in sets for word in ("--set", change))]
    subprocess.run(command, check=True, capture_output=True)
    small = (run / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", small[:8])[0]
    header = json.loads(small[8 : 8 + length])
    del header["__metadata__"]
    side = lambda side: side // SMALL * WIDTH if side % SMALL == 0 else side
    depth = max(1, round(arguments.megabytes * 1e6 / (4 * 18 * WIDTH**2)))
    shapes = {}
    for name, tensor in header.items():
        layers = range(depth) if name.startswith("blocks.0.") else [0]
        shapes |= {name.replace("blocks.0.", f"blocks.{layer}."): [side(n) for n in tensor["shape"]] for layer in layers}
    header, end = {"__metadata__": {"format": "pt", "library_name": "mixflow"}}, 0
    for name, shape in sorted(shapes.items()):
        count = 4
        for n in shape:
            count *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + count]}
        end += count
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    numbers = random.Random(0)
    block = struct.pack("<262144f", *(numbers.gauss(0, 0.01) for _ in range(262144)))
    with open(run / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for at in range(0, end, len(block)):
            file.write(block[: end - at])
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["network"] |= {"width": WIDTH, "depth": depth, "heads": 12, "hidden": 4 * WIDTH}
    (run / "recipe.json").write_text(json.dumps(recipe, indent=2))
    for file in (run / "checkpoints").glob("*/*"):
        file.unlink()
    for folder in [*(run / "checkpoints").glob("*"), run / "checkpoints"]:
        folder.rmdir()
    return end


with tempfile.TemporaryDirectory() as folder:
    run, folder = Path(folder) / "run", Path(folder)
    size = make(run)
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_bench", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment["HF_HUB_DISABLE_XET"] = "1"
    print(f"{size / 1e6:.0f} MB of weights")
    publish = [arguments.program, "publish", run, "--to", "org/name"]
    subprocess.run([*publish, "--dry-run", folder / "public"], check=True, capture_output=True)
    upload = f"from huggingface_hub import HfApi; HfApi().upload_folder(folder_path={str(folder / 'public')!r}, repo_id='org/name')"
    began = time.monotonic()
    with open(run / "model.safetensors", "rb") as file:
        hashlib.file_digest(file, "sha256")
    print(f"{'SHA-256 alone, of Python':<44} {time.monotonic() - began:6.2f} s")
    rows = [
        ("mixflow publish", publish),
        ("mixflow publish --no-samples", [*publish, "--no-samples"]),
        ("huggingface_hub", [sys.executable, "-c", upload]),
    ]
    for name, command in rows:
        State.sizes, State.files, State.commits = {}, {}, State.commits + 1
        for what in ["first", "nothing to do", "nothing to do"]:
            commit = State.commits
            seconds, resident, own = watched(command, **environment)
            assert (State.commits > commit) == (what == "first"), (name, what)
            print(f"{f'{name}, {what}':<44} {seconds:6.2f} s, {resident} MB, {own} MB without pages of files")

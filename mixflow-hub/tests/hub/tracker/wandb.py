"""Runs `wandb sync` against a server on loopback that answers as W&B's does; prints what that was sent, as JSON."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading

sent = {"runs": [], "history": {}, "summary": None, "files": {}, "exit": None}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        length = self.headers.get("Content-Length")
        if length is not None:
            body = self.rfile.read(int(length))
        else:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        sent["files"][self.path.removeprefix("/storage/")] = self.body().hex()
        self.answer({})

    def do_POST(self):
        body = json.loads(self.body())
        if self.path == "/graphql":
            self.answer({"data": self.graphql(body["query"], body.get("variables") or {})})
            return
        for name, part in (body.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                for index, line in enumerate(part["content"]):
                    sent["history"][part["offset"] + index] = json.loads(line, parse_constant=str)
            elif name == "wandb-summary.json":
                sent["summary"] = json.loads(part["content"][-1], parse_constant=str)
        if "exitcode" in body:
            sent["exit"] = body["exitcode"]
        self.answer({})

    def graphql(self, query, variables):
        if "upsertBucket" in query:
            sent["runs"].append(variables)
            project = {"id": "2", "name": variables["project"], "entity": {"id": "3", "name": "team"}}
            bucket = {"id": "1", "name": variables["name"], "displayName": variables["displayName"], "config": "{}",
                      "sweepName": None, "project": project, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            host = self.headers["Host"]
            files = [{"name": name, "uploadUrl": f"http://{host}/storage/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {}


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """The client closes connections as it likes."""


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = dict(
    os.environ, WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}", WANDB_API_KEY="0" * 40,
    WANDB_ERROR_REPORTING="false", WANDB_DIR=sys.argv[2], HOME=sys.argv[2], no_proxy="127.0.0.1",
)
command = [sys.executable, "-m", "wandb", "sync", sys.argv[1]]
done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
sent["output"] = done.stdout + done.stderr
sent["history"] = [sent["history"][index] for index in sorted(sent["history"])]
print(json.dumps(sent))

"""A server that speaks the part of Consul's HTTP API that we use, as its documentation describes it. No agent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class FakeConsul:
    """What it was told and what it answers. `token` is asked for when set; `leader` "" is a cluster without one."""

    def __init__(self) -> None:
        self.services: dict[str, dict[str, Any]] = {}
        self.kv: dict[str, bytes] = {}
        self.leader = "10.0.0.1:8300"
        self.token = ""
        self.broken: tuple[int, bytes] | None = None  # a status and a body for every question
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    consul: FakeConsul

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path = self._begin()
        if path is None:
            return
        if path == "/v1/status/leader":
            self._answer(200, json.dumps(self.consul.leader).encode())
        elif path == "/v1/agent/services":
            known = {key: {"ID": key, "Service": each["name"]} for key, each in self.consul.services.items()}
            self._answer(200, json.dumps(known).encode())
        elif path.startswith("/v1/kv/"):
            self._values(path.removeprefix("/v1/kv/"))
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self._begin()
        if path is None:
            return
        if path == "/v1/agent/service/register":
            service = json.loads(body)
            self.consul.services[service.get("id") or service.get("ID") or service["name"]] = service
            self._answer(200)
        elif path.startswith("/v1/agent/service/deregister/"):
            known = self.consul.services.pop(path.rpartition("/")[2], None)
            self._answer(200 if known else 404, b"" if known else b"Unknown service ID")
        else:
            self._answer(404)

    def _begin(self) -> str | None:
        """The path, unless the question is answered already."""
        path = unquote(urlsplit(self.path).path)
        self.consul.asked.append(f"{self.command} {path}")
        if self.consul.broken:
            self._answer(*self.consul.broken)
            return None
        if self.consul.token and self.headers.get("X-Consul-Token") != self.consul.token:
            self._answer(403, b"Permission denied: token with AccessorID ... lacks permission")
            return None
        return path

    def _values(self, prefix: str) -> None:
        recurse = "recurse" in parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        found = {key: value for key, value in self.consul.kv.items() if recurse and key.startswith(prefix)}
        rows = [
            {
                "LockIndex": 0, "Key": key, "Flags": 0, "CreateIndex": 10, "ModifyIndex": 20,
                "Value": base64.b64encode(value).decode() if value else None,
            }
            for key, value in sorted(found.items())
        ]  # fmt: skip
        self._answer(200 if rows else 404, json.dumps(rows).encode() if rows else b"")

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Consul-Index", "20")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_consul() -> Iterator[tuple[FakeConsul, str]]:
    """The server and its address, on a port of its own."""
    consul = FakeConsul()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"consul": consul}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield consul, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A proxy before an S3 server that counts requests and lets some of them fail, as a network and a service do."""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OWN = {"connection", "content-length", "date", "server", "transfer-encoding"}  # headers that each side has of its own


@dataclass
class Faults:
    """What goes wrong: a share of all requests gets 500, 503 or a reset, one in `hangs` no answer for `hang_s`.

    The first request whose path holds `outage_at` begins an outage of `outage_s`, in which all connections are reset.
    `delay_s` comes before each answer; a write with a condition gets `on_condition`, if any. `counts` has all that were asked, `faults` what went wrong.
    """

    failing: float = 0.0
    hangs: int = 0
    hang_s: float = 60.0
    delay_s: float = 0.0
    outage_at: str = ""
    outage_s: float = 0.0
    down_until: float = 0.0
    on_condition: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    draws: random.Random = field(default_factory=lambda: random.Random(0))

    def drawn(self, path: str) -> str:
        if self.outage_at and self.outage_at in path:
            self.outage_at, self.down_until = "", time.monotonic() + self.outage_s
        if time.monotonic() < self.down_until:
            return "down"
        if self.hangs and self.draws.random() < 1 / self.hangs:
            return "hang"
        return self.draws.choice(["500", "503", "reset"]) if self.draws.random() < self.failing else ""


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server, self.faults = server, Faults()
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        pass  # a client that hung up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        faults = self.server.faults
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults.counts[self.command, self.path.partition("?")[0] + ("?list" if "list-type" in self.path else "")] += 1
        fault = faults.drawn(self.path) or (str(faults.on_condition or "") if self.headers["If-None-Match"] else "")
        faults.faults[fault] += 1
        time.sleep(faults.hang_s if fault == "hang" else faults.delay_s)
        if fault in ("hang", "reset", "down"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault:
            self._answer(int(fault), [], b"", "0")
        else:
            server = http.client.HTTPConnection(self.server.server)
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            size = (self.command == "HEAD" and answer.getheader("Content-Length")) or str(len(content))
            self._answer(answer.status, answer.getheaders(), content, size)
            server.close()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, size: str) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass

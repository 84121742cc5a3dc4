"""What stands between a client and its store, and fails as networks and servers do."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
import time
from collections.abc import Callable, Iterator

PASS, LOSE, HANG = 0, -1, -2
"""Let a request through; let it through and lose the answer; never answer."""


class Proxy:
    """Counts requests, and asks `rule` what becomes of each.

    Attributes:
        rule: (method, path) -> `PASS`, `LOSE`, `HANG` or the HTTP status that is answered.
        requests: Methods and paths, in the order in which they came.
        delay_s: How long each request is held before it is let through.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self.upstream = upstream
        self.rule: Callable[[str, str], int] = lambda method, path: PASS
        self.requests: list[tuple[str, str]] = []
        self.delay_s = 0.0


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, *given):
        return

    def _handle(self):
        body = self._body()
        self.proxy.requests.append((self.command, self.path))
        verdict = self.proxy.rule(self.command, self.path)
        if verdict > 0:
            self.send_response(verdict)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if verdict == HANG:
            time.sleep(30)
            self.close_connection = True
            return
        time.sleep(self.proxy.delay_s)
        self._forward(body, lost=verdict == LOSE)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _forward(self, body: bytes, *, lost: bool) -> None:
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=30)
        try:
            kept = {n: v for n, v in self.headers.items() if n.lower() != "transfer-encoding"}
            kept["Content-Length"] = str(len(body))
            kept.pop("Expect", None)
            upstream.request(self.command, self.path, body=body, headers=kept)
            answer = upstream.getresponse()
            content = answer.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            upstream.close()
        if lost:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        if self.command != "HEAD" and "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle


@contextlib.contextmanager
def between(upstream: int) -> Iterator[Proxy]:
    """Runs a proxy of a port of this machine."""
    handler = type("Handler", (_Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.proxy = Proxy(server.server_port, upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler.proxy
    finally:
        server.shutdown()
        server.server_close()

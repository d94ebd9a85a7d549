"""A web server in a thread that says what it was asked, and a proxy to reach it by."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.cli import Fastws
from tests.support.services import read_exactly
from tests.support.timing import LONG


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = LONG
    server: "Origin"

    def _answer(self) -> None:
        body = self._body()
        fields = {name.lower(): value for name, value in self.headers.items()}
        seen = {
            "method": self.command,
            "path": self.path,
            "fields": fields,
            "body": body.decode("latin-1"),
            "origin": self.server.name,
        }
        self.server.seen.append(seen)
        answer = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815 (http.server's names)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return body

    def log_message(self, *_: object) -> None:
        pass


class Origin(ThreadingHTTPServer):
    """Answers every request with what it was, as JSON.

    Attributes:
        seen: the requests.
        accepted: connections so far.
    """

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", name: str = "a") -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, 0), _Handler)
        self.name = name
        self.port: int = self.server_address[1]
        self.seen: list[dict[str, Any]] = []
        self.accepted = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        self.accepted += 1
        return super().get_request()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


@contextlib.contextmanager
def forward_proxy(
    *options: str, listen: str = "127.0.0.1:0", **variables: str
) -> Iterator[Fastws]:
    """``fastws proxy`` on a free port."""
    with Fastws("proxy", listen, *options, **variables) as process:
        yield process


def read_head(sock: Any) -> tuple[int, dict[str, str]]:
    """Status and fields, names in lower case, of an answer; reads nothing behind it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += read_exactly(sock, 1)
    lines = data.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {k.lower(): v for k, v in fields.items()}


def read_answer(sock: Any) -> tuple[int, Any]:
    """Status and body of an answer with a length; JSON is read."""
    status, fields = read_head(sock)
    body = read_exactly(sock, int(fields["content-length"]))
    return status, json.loads(body) if body.startswith(b"{") else body

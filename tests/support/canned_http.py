"""A server that answers with exactly the bytes a test wants, for protocols and accidents the fake
provider does not know.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Canned:
    """The answer to every POST: its body in chunks.

    ``cut`` hangs up without the end of the body.
    """

    chunks: list[bytes] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    cut: bool = False
    url: str = ""
    requests: int = 0


@contextmanager
def canned(*chunks: bytes, status: int = 200, cut: bool = False, **headers: str):
    """Serve ``chunks`` until the block ends; ``content_type="…"`` and the like name headers."""
    answer = Canned(
        list(chunks),
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        cut,
    )
    answer.headers.setdefault("content-type", "application/json")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self):
            answer.requests += 1
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in answer.chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            if answer.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answer.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield answer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

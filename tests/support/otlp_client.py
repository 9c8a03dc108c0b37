"""A client that delivers batches of spans at least once, as OTLP clients do."""

from __future__ import annotations

import http.client
import secrets
import threading
import time

from support.sidecars import PROTOBUF, request


class Client(threading.Thread):
    """Sends batches until stopped, each again and again until it is acknowledged, as OTLP
    clients do.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port, self.stopping, self.sent, self.acknowledged = (
            port,
            threading.Event(),
            set(),
            set(),
        )

    def run(self) -> None:
        while not self.stopping.is_set():
            ids = [(secrets.token_bytes(16), secrets.token_bytes(8)) for _ in range(16)]
            self.sent.update(ids)
            body = request(spans=ids)
            while not self._delivered(body):
                if self.stopping.is_set():
                    return
                time.sleep(0.005)
            self.acknowledged.update(ids)

    def _delivered(self, body: bytes) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", "/v1/traces", body, PROTOBUF)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

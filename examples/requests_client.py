"""A client of requests waits for its bucket, and stops when the service asks for a rest.

pip install -e '.[requests]'
python examples/requests_client.py
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

from crdtbucket import BucketSpec, Limiter, WaitTimeout
from crdtbucket.upstream.requests_adapter import UpstreamAdapter
from crdtbucket.upstream.upstream import Upstream

SPEC = BucketSpec("service", capacity=5, refill_rate=20)


class Service(BaseHTTPRequestHandler):
    """Answers nine calls, and asks for half a minute's rest at the tenth."""

    calls = 0

    def do_GET(self) -> None:
        """One call."""
        Service.calls += 1
        if Service.calls < 10:
            self.send_response(200)
        else:
            self.send_response(429)
            self.send_header("Retry-After", "30")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def outcome(session: requests.Session, address: str) -> str:
    """What becomes of one call."""
    try:
        return str(session.get(address).status_code)
    except WaitTimeout as late:
        return f"not sent, {late}"


def main(address: str) -> None:
    """Twelve calls, one after the other."""
    with requests.Session() as session:
        upstream = Upstream(Limiter([SPEC]), "service", timeout=20)
        session.mount(address, UpstreamAdapter(upstream))
        begun = time.monotonic()
        for number in range(1, 13):
            told = outcome(session, address)
            print(f"call {number} after {time.monotonic() - begun:.2f} s: {told}")


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            main(f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()

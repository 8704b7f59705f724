"""An adapter for requests: `session.mount("https://api.example.com", UpstreamAdapter(one))`."""

from __future__ import annotations

from typing import Any

from crdtbucket.base.extras import extra
from crdtbucket.upstream.upstream import Upstream, check_upstream

with extra("requests"):
    import requests
    from requests.adapters import HTTPAdapter


class UpstreamAdapter(HTTPAdapter):
    """Each request waits for its turn, and is then sent as by `HTTPAdapter`."""

    def __init__(self, upstream: Upstream, **options: Any) -> None:
        """options: of `HTTPAdapter`. What its `max_retries` sends again does not wait again."""
        check_upstream(upstream)
        super().__init__(**options)
        self._upstream = upstream

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """The answer. Raises `WaitTimeout` before anything is sent."""
        call = self._upstream.wait_sync(request)
        response = super().send(request, **options)
        call.answered(response.status_code, response.headers.items())
        return response

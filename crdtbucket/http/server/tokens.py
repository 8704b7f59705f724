"""The tokens that a request has to show: one for calls, and one for the admin side."""

from __future__ import annotations

import hmac

from aiohttp import web

from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import Siblings

ADMIN, CALLS = "/admin/", ("/v1/", "/json")


class Tokens:
    """Decides by its `Authorization` field whether a request may go on to its path."""

    def __init__(self, settings: ServeSettings, siblings: Siblings | None) -> None:
        """Without an admin token /admin/ is off; without a token /v1/ is open."""
        self._admin = _encoded(settings.admin_token)
        self._call = _encoded(settings.token)
        self._siblings = siblings

    def check(self, request: web.BaseRequest) -> None:
        """Raises `Refusal` for a request that lacks the token of its path."""
        if request.path.startswith(ADMIN):
            if not self._admin:
                said = "the admin side is off: start the server with --admin-token-file"
                raise Refusal(403, said)
            self._require(_authorization(request), "the admin token", self._admin)
        elif request.path.startswith(CALLS) and not self._by_sibling(request):
            self.check_call(_authorization(request))

    def check_call(self, authorization: str) -> None:
        """Raises `Refusal` for a call whose `Authorization` shows no token, where one is needed."""
        if self._call:
            self._require(authorization, "the token", self._call + self._admin)

    def _by_sibling(self, request: web.BaseRequest) -> bool:
        return self._siblings is not None and self._siblings.asked_by_one(request)

    def _require(self, authorization: str, named: str, accepted: tuple[bytes, ...]) -> None:
        scheme, _, given = authorization.partition(" ")
        shown = given.strip().encode("utf-8", "surrogateescape")
        # Each in constant time, so that a token cannot be guessed a character at a time.
        matches = [hmac.compare_digest(shown, token) for token in accepted]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refusal(
                401,
                f"send {named}: Authorization: Bearer ...",
                headers={"WWW-Authenticate": 'Bearer realm="crdtbucket"'},
            )


def _authorization(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "")


def _encoded(token: str | None) -> tuple[bytes, ...]:
    return () if token is None else (token.encode(),)


__all__ = ["ADMIN", "CALLS", "Tokens"]

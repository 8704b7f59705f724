"""The tokens that a request has to show: one for calls, and one for the admin side."""

from __future__ import annotations

from aiohttp import web

from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.http.server.token_digest import TokenDigest

ADMIN, CALLS = "/admin/", ("/v1/", "/json")


class Tokens:
    """Decides by its `Authorization` field whether a request may go on to its path."""

    def __init__(self, settings: ServeSettings, siblings: Siblings) -> None:
        """Without an admin token /admin/ is off; without a token /v1/ is open."""
        self._admin, self._call = settings.admin_needs, settings.calls_need
        self._siblings = siblings

    def check(self, request: web.BaseRequest) -> None:
        """Raises `Refusal` for a request that lacks the token of its path."""
        if request.path.startswith(ADMIN):
            self._require(_authorization(request), "the admin token", self._admin_token())
        elif (
            self._call
            and request.path.startswith(CALLS)
            and not self._siblings.asked_by_one(request)
        ):
            self.check_call(_authorization(request))

    def check_call(self, authorization: str) -> None:
        """Raises `Refusal` for a call whose `Authorization` shows no token, where one is needed."""
        if self._call:
            self._require(authorization, "the token", self._call, self._admin)

    @property
    def has_admin(self) -> bool:
        """Whether there is an admin side."""
        return self._admin is not None

    @property
    def calls_are_open(self) -> bool:
        """Whether the paths under /v1/ need no token."""
        return self._call is None

    def is_admin(self, given: str) -> bool:
        """Whether this is the admin token. Raises `Refusal` where that side is off."""
        return self._admin_token().matches(given)

    def _admin_token(self) -> TokenDigest:
        if self._admin is None:
            raise Refusal(403, "the admin side is off: start the server with --admin-token-file")
        return self._admin

    def _require(self, authorization: str, named: str, *accepted: TokenDigest | None) -> None:
        scheme, _, given = authorization.partition(" ")
        # Each in constant time, so that a token cannot be guessed a character at a time.
        matches = [token.matches(given.strip()) for token in accepted if token is not None]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refusal(
                401,
                f"send {named}: Authorization: Bearer ...",
                headers={"WWW-Authenticate": 'Bearer realm="crdtbucket"'},
            )


def asker(request: web.BaseRequest) -> str:
    """The sender, for the audit log: the client's address, if the request came by TCP."""
    return request.remote or "the socket"


def _authorization(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "")

"""The page of the console: its files, and the header fields that say what the browser may do.

The page itself contains no script or style, nothing is loaded from elsewhere, and no other page may
frame it: even if the text of a key were inserted into the page, it could not run.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

from crdtbucket.http.server.refusal import Refusal

PAGE = "index.html"
VENDOR = "vendor/"
"""The folder of files that others have written; they are unchanged."""
KINDS = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SAFETY = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""The header fields of every answer under /console."""


class PageFiles:
    """All files of the page, read once."""

    def __init__(self) -> None:
        folder = resources.files(__package__) / "static"
        self._files = {
            prefix + one.name: one.read_bytes()
            for prefix in ("", VENDOR)
            for one in folder.joinpath(prefix).iterdir()
            if _kind(one.name)
        }
        self._tags = {
            name: f'"{hashlib.sha256(data).hexdigest()[:24]}"' for name, data in self._files.items()
        }

    def answer(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        """A file, or 304 where the browser has it. Raises `Refusal` where there is none."""
        if name not in self._files:
            raise Refusal(404, "the console has no such file", headers=SAFETY)
        # Asked for again each time: a console must not be older than its server.
        fields = {**SAFETY, "ETag": self._tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == self._tags[name]:
            return web.Response(status=304, headers=fields)
        kind = f"{_kind(name)}; charset=utf-8"
        return web.Response(body=self._files[name], headers={**fields, "Content-Type": kind})


def _kind(name: str) -> str:
    return KINDS.get(name.rpartition(".")[2], "")

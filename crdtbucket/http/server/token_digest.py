"""A token as a server keeps it: a digest, from which the token cannot be computed."""

from __future__ import annotations

import hashlib
import hmac

from crdtbucket.errors import InvalidSpec

LEAST_TOKEN = 16


class TokenDigest:
    """The digest of a token that some requests have to show."""

    def __init__(self, token: str, field: str) -> None:
        """Keeps only the digest. Raises `InvalidSpec`, which names the `field`, for a text that no
        request can show, and for one that is too short to be a secret: the digest of a long random
        text cannot be inverted, but short texts can be tried one by one."""
        words = field.replace("_", " ")
        if not token.isprintable():  # as a second line is not, nor half a surrogate pair
            raise InvalidSpec(f"the {words} is no line of text", "write one line of ASCII", field)
        if len(token) < LEAST_TOKEN:
            fix = f"use {LEAST_TOKEN} characters or more, such as `openssl rand -hex 32` prints"
            raise InvalidSpec(f"the {words} is too short to be a secret", fix, field)
        self._digest = digest_of(token)

    def matches(self, given: str) -> bool:
        """Whether this is the token; takes the same time whatever the first difference is."""
        return hmac.compare_digest(digest_of(given), self._digest)


def digest_of(text: str) -> bytes:
    """The digest of a secret text, whatever bytes a request has sent."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

"""How a server of decisions behaves: its addresses, its options, and what it endures."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.admin_token import AdminToken
from crdtbucket.http.server.host_names import Hosts

DEFAULT_LISTEN = "127.0.0.1:7980"


@dataclass(frozen=True)
class ServeSettings:
    """What `crdtbucket serve` is started with. Times are seconds, sizes bytes."""

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    """Each "host:port", or "unix:/path" for a socket that only this host can reach."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which it may be asked, and whose pages may ask it; "*" for any. Without
    them: the addresses that it listens on, localhost, and any address where it listens on all."""
    admin_token: InitVar[str | None] = None
    """What the admin side asks for; without one it is off."""
    config: str | None = None
    """The limiter's file, which the node examines when it is asked to; without one it refuses."""
    legacy_fields: bool = False
    """Answer with `X-RateLimit-*` too."""
    fallback_503: bool = False
    """Deny with 503 instead of 429 while a bucket decides by the rule of an outage."""
    retry_jitter: float = 0.0
    """At most so much is added to `Retry-After`, so that clients do not return all at once."""
    max_connections: int = 1_000
    max_connections_per_address: int = 0
    """Of another host; 0: half of all. Those of this host share one address, and have no share."""
    max_body: int = 256 * 1024
    head_deadline: float = 5.0
    """For the head of the first request of a connection, from its first moment."""
    request_deadline: float = 10.0
    """For the body of a request and the answer to it, from the end of its head."""
    idle_deadline: float = 60.0
    """Between two requests of a connection; the head of the second one included."""
    drain_deadline: float = 10.0
    """For requests under way when the server is told to end."""
    admin: AdminToken | None = field(init=False, repr=False, default=None)
    """The digest of the admin token: the token itself is not kept."""

    def __post_init__(self, admin_token: str | None) -> None:
        """Raises `InvalidSpec`."""
        if admin_token is not None:
            object.__setattr__(self, "admin", AdminToken(admin_token))
        if not self.listen:
            fix = f'name one, such as "{DEFAULT_LISTEN}"'
            raise InvalidSpec("there is no address to listen on", fix, "listen")
        Hosts(self.listen, self.allowed_hosts)


__all__ = ["DEFAULT_LISTEN", "ServeSettings"]

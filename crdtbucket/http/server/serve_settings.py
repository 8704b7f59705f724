"""The settings of `crdtbucket serve`: addresses, tokens, TLS, bounds on connections and time."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Annotated

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.base.setting_checks import SecondsRange, WholeRange
from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.host_names import Hosts
from crdtbucket.http.server.listening import UNIX
from crdtbucket.http.server.token_digest import TokenDigest
from crdtbucket.spec.field_checks import check_fields

DEFAULT_LISTEN = "127.0.0.1:7980"


@dataclass(frozen=True)
class ServeSettings:
    """The settings with which `crdtbucket serve` starts. Times are seconds, sizes bytes."""

    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    """Each "host:port", or "unix:/path" for a socket that only this host can reach."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which clients may address the server, and whose web pages may use it; "*"
    for any. It always accepts the addresses that it listens on, localhost, and any address if it
    listens on all."""
    token: InitVar[str | None] = None
    """The token that /v1/ asks for; without one it is open."""
    admin_token: InitVar[str | None] = None
    """The token that the admin side needs, which opens /v1/ as well; without one the admin side is
    off."""
    tls_cert: str | None = None
    tls_key: str | None = None
    """PEM files, with which TCP addresses are served by TLS. Changed files come into use by
    themselves."""
    insecure: bool = False
    """Allow listening where other hosts can reach it without a token or without TLS."""
    grpc: str | None = None
    """The address of Envoy's rate limit services, "host:port" or "unix:/path"; None: they are
    off."""
    config: str | None = None
    """The limiter's file, for the examination of the node by itself; without one it refuses
    that."""
    legacy_fields: bool = False
    """Answer with `X-RateLimit-*` too."""
    fallback_503: bool = False
    """Deny with 503 instead of 429 while a bucket decides by the rule of an outage."""
    retry_jitter: Annotated[float, SecondsRange(0, 3_600)] = 0.0
    """A random time of up to this many seconds, an hour at most, is added to `Retry-After`, so that
    clients do not return all at once."""
    max_connections: Annotated[int, WholeRange(1, 100_000)] = 1_000
    max_connections_per_address: Annotated[int, WholeRange(0, 100_000)] = 0
    """The most connections from the address of another host, IPv6 by its /64; 0: half of all.
    Those of this host share one address, and are not limited by it."""
    max_body: Annotated[int, WholeRange(1, 2**30)] = 256 * 1024
    head_deadline: Annotated[float, SecondsRange(0.001, 3_600)] = 5.0
    """Seconds for the head of the first request of a connection, from its first moment."""
    request_deadline: Annotated[float, SecondsRange(0.001, 3_600)] = 10.0
    """Seconds for the body of a request and the answer to it, from the end of its head."""
    idle_deadline: Annotated[float, SecondsRange(0.001, 3_600)] = 60.0
    """Between two requests of a connection; the head of the second one included."""
    drain_deadline: Annotated[float, SecondsRange(0, 600)] = 10.0
    """Seconds for requests under way when the server is told to end."""
    calls_need: TokenDigest | None = field(init=False, repr=False, default=None)
    admin_needs: TokenDigest | None = field(init=False, repr=False, default=None)
    """The digests of the two tokens, which are not kept themselves."""

    def __post_init__(self, token: str | None, admin_token: str | None) -> None:
        """Raises `InvalidSpec`, naming the field."""
        check_fields(self)
        given = (("calls_need", "token", token), ("admin_needs", "admin_token", admin_token))
        for name, field_of, text in given:
            if text is not None and not isinstance(text, str):
                raise InvalidSpec(f"{field_of} is no text", "write a string", field_of)
            if text is not None:
                object.__setattr__(self, name, TokenDigest(text, field_of))
        if (self.tls_cert is None) is not (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_cert"
            raise InvalidSpec("a certificate and its key go together", "give both", missing)
        if not self.listen:
            fix = f'name one, such as "{DEFAULT_LISTEN}"'
            raise InvalidSpec("there is no address to listen on", fix, "listen")
        Hosts(self.listen, self.allowed_hosts)
        self._check_exposure()

    def _check_exposure(self) -> None:
        lacks = {
            "--token-file": self.calls_need,
            "--tls-cert with --tls-key": self.tls_cert,
        }
        missing = " and ".join(option for option, given in lacks.items() if given is None)
        listen = (*self.listen, *([] if self.grpc is None else [self.grpc]))
        reached = [address for address in listen if others_reach(address)]
        if reached and missing and not self.insecure:
            raise InvalidSpec(
                f"other hosts can reach {reached[0]!r}, and take tokens there",
                f"add {missing}, or --insecure where the network or a proxy before this server "
                "keeps strangers out",
                "listen",
            )


def others_reach(address: str) -> bool:
    """Whether other hosts can connect to an address of a server."""
    if address.startswith(UNIX):
        return False
    try:
        return not is_loopback(split_address(address)[0])
    except ValueError:
        return False  # listening on it raises, with the reason

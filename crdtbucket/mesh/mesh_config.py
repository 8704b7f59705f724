"""Settings of one node in the mesh: where it listens, which peers it calls, what it trusts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.setting_checks import (
    check_kinds,
    field_problems,
    is_unicode,
    key_pair_problem,
    most_seconds,
    section_problem,
)
from crdtbucket.errors import ConfigError, MeshError, Problem
from crdtbucket.mesh.engine_settings import engine_problems
from crdtbucket.mesh.identity_settings import identity_problems
from crdtbucket.mesh.mesh_fields import MONTH_S, MeshFields, Secret

_problem = partial(section_problem, "mesh")
DNS_PREFIX = "dns+"
RENEWABLE = (
    "mesh.secret",
    "mesh.observer_secret",
    "mesh.identity_key",
    "mesh.allowed_keys",
    "mesh.operator_keys",
)
"""Settings that may change while a mesh works."""
LEAST_ROUNDS = 20
"""The fewest rounds until a peer is forgotten: updates may be lost, and relays take some."""
LEAST_SECRET = 16
"""Bytes of a secret that authenticates: a shorter one can be guessed."""


@dataclass(frozen=True)
class MeshConfig(MeshFields):
    """Settings of one node's part in the mesh; checked when made.

    Raises `ConfigError` with every field of a wrong type, or else every wrong field, and
    `MeshError` for an address that others can reach, or a peer on another machine, while
    nothing authenticates them.
    """

    def __post_init__(self) -> None:
        check_kinds("mesh", self)
        if self.secret is not None and not isinstance(self.secret, (str, bytes)):
            object.__setattr__(self, "secret", tuple(self.secret))
        if isinstance(self.allowed_keys, Mapping):
            keys = {name: _several(given) for name, given in self.allowed_keys.items()}
            object.__setattr__(self, "allowed_keys", keys)
        problems = [
            *self._address_problems(),
            *engine_problems(self),
            *self._secret_problems(),
            *self._tls_problems(),
            *identity_problems(self),
            *self._number_problems(),
        ]
        if problems:
            raise ConfigError(problems)
        if self.transport != "sockets" and not self.secrets:
            raise MeshError(
                f"mesh.transport is {self.transport}, where others may publish too, and nothing "
                "authenticates nodes: set mesh.secret"
            )
        if not (self.secrets or self.mutual_tls):
            self._refuse_strangers()

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """All secrets that are accepted, as bytes; the first is the one used."""
        given = self.secret
        if given is None:
            return ()
        several = (given,) if isinstance(given, (str, bytes)) else given
        return tuple(_as_bytes(one) for one in several)

    @property
    def observing_secret(self) -> bytes | None:
        """`observer_secret` as bytes."""
        return None if self.observer_secret is None else _as_bytes(self.observer_secret)

    @property
    def expected_peers(self) -> int:
        """How many peers to expect from the first; on an engine there may be one."""
        return len(self.peers) if self.transport == "sockets" else 1

    @property
    def tls_files(self) -> tuple[str, ...]:
        """The files of TLS that are given."""
        files = (self.tls_cert, self.tls_key, self.tls_ca)
        return tuple(one for one in files if one is not None)

    @property
    def gossip_interval_ns(self) -> int:
        """`gossip_interval` in nanoseconds."""
        return round(self.gossip_interval * NS_PER_SECOND)

    @property
    def partition_trust_ns(self) -> int | None:
        """`partition_trust` in nanoseconds."""
        trust = self.partition_trust
        return None if trust is None else round(trust * NS_PER_SECOND)

    @property
    def forget_after_ns(self) -> int:
        """`forget_after` in nanoseconds."""
        return round(self.forget_after * NS_PER_SECOND)

    @property
    def ended_is_dead_ns(self) -> int | None:
        """`ended_is_dead` in nanoseconds, None for never."""
        period = self.ended_is_dead
        return None if isinstance(period, str) else round(period * NS_PER_SECOND)

    def _refuse_strangers(self) -> None:
        """Nothing authenticates peers, so none may be on another machine."""
        fix = "set mesh.secret, or tls_cert, tls_key and tls_ca for mutual TLS"
        if not is_loopback(split_address(self.listen)[0]):
            raise MeshError(
                f"mesh.listen is {self.listen!r}, which other machines can reach, and nothing "
                f"authenticates them: {fix}, or listen on 127.0.0.1"
            )
        for number, peer in enumerate(self.peers):
            if not is_loopback(split_address(peer.removeprefix(DNS_PREFIX))[0]):
                raise MeshError(
                    f"mesh.peers[{number}] is {peer!r}, on another machine, and nothing "
                    f"authenticates it: {fix}, or name peers on 127.0.0.1 alone"
                )

    def _address_problems(self) -> Iterator[Problem]:
        yield from _address_problem("listen", self.listen, lowest_port=0)
        if self.advertise is not None:
            yield from _address_problem("advertise", self.advertise)
        for number, peer in enumerate(self.peers):
            address = peer.removeprefix(DNS_PREFIX) if isinstance(peer, str) else peer
            yield from _address_problem(f"peers[{number}]", address)

    def _secret_problems(self) -> Iterator[Problem]:
        several = isinstance(self.secret, tuple)
        given = self.secret if isinstance(self.secret, tuple) else (self.secret,)
        if several and not given:
            yield _problem("secret", "is an empty list", "give at least one secret, or none at all")
        for number, one in enumerate(given):
            if several or one is not None:
                name = f"secret[{number}]" if several else "secret"
                yield from _secret_problem(name, one, LEAST_SECRET)
        if self.observer_secret is not None:
            yield from _secret_problem("observer_secret", self.observer_secret, LEAST_SECRET)
            if self.hash_secret is None:
                fix = "set it on every node and at every observer: both hash keys alike"
                yield _problem("hash_secret", "is missing beside observer_secret", fix)
            if self.observer_secret in given:
                fix = "give observers a secret of their own: who has that of the members is one"
                yield _problem("observer_secret", "is one of mesh.secret", fix)
            if given == (None,):
                yield _problem("secret", "is missing beside observer_secret", "set it, too")
        if self.hash_secret is not None:
            yield from _secret_problem("hash_secret", self.hash_secret, 1)

    def _tls_problems(self) -> Iterator[Problem]:
        yield from key_pair_problem("mesh", self.tls_cert, self.tls_key)
        alone = self.tls_ca is not None and self.tls_cert is None and self.tls_key is None
        if alone and self.transport == "sockets":
            yield _problem("tls_cert", "is missing", "mutual TLS needs tls_cert and tls_key too")

    def _number_problems(self) -> Iterator[Problem]:
        wrong = list(field_problems("mesh", self))
        yield from wrong
        spans = {"mesh.gossip_interval", "mesh.forget_after"}
        if not spans.isdisjoint(one.path for one in wrong):
            return
        least, why = LEAST_ROUNDS * self.gossip_interval, f"{LEAST_ROUNDS} times gossip_interval"
        if self.forget_after < least:
            fix = f"write seconds from {least:g} to {most_seconds(MONTH_S)}: {why}, or more"
            yield _problem("forget_after", f"is {self.forget_after!r}", fix)


def _address_problem(name: str, address: str, lowest_port: int = 1) -> Iterator[Problem]:
    try:
        _, port = split_address(address)
    except ValueError as error:
        yield _problem(name, str(error), 'write "host:port", such as "10.0.0.5:7946"')
        return
    if port < lowest_port:
        yield _problem(name, f"is {address!r}", "port 0 can only be listened on; give the real one")


def _secret_problem(name: str, secret: object, least: int) -> Iterator[Problem]:
    # The value is never repeated: messages end up in logs.
    if not isinstance(secret, (str, bytes)):
        yield _problem(name, "is neither text nor bytes", "write the secret as text")
    elif isinstance(secret, str) and not is_unicode(secret):
        yield _problem(name, "is not UTF-8", "write bytes, or text that UTF-8 can encode")
    elif not secret.strip():
        yield _problem(name, "is empty", "give a secret, or leave the field out")
    elif (size := len(_as_bytes(secret))) < least:
        fix = f"use {least} random bytes or more, such as `openssl rand -hex 16` prints"
        yield _problem(name, f"has {size} bytes, which can be guessed", fix)


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        return (given,)
    return tuple(given)


def _as_bytes(secret: Secret) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret

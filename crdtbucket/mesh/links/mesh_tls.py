"""TLS contexts of the mesh from certificate files: of peers, and of calls to a message engine.

Each new connection uses the files as they are then; one that exists keeps its certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from crdtbucket.base.loaded_files import LoadedFiles, TlsFiles, load_authorities, load_key_pair
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.mesh_config import MeshConfig

PEERS = "the mesh's certificates"


def followed(config: MeshConfig, make: Callable[[MeshConfig], ssl.SSLContext | None]) -> TlsFiles:
    """The TLS context that `make` makes of the files, followed as they change. Raises `MeshError`
    for a file that fails."""
    return LoadedFiles(config.tls_files, partial(make, config), LOG)


def listener_context(config: MeshConfig) -> ssl.SSLContext | None:
    """The context for serving peers; None without certificates. Raises `MeshError` for a file that
    fails.

    Both ends are this program, so TLS 1.3 only."""
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, config, PEERS)
    if config.mutual_tls:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def dialer_context(config: MeshConfig) -> ssl.SSLContext | None:
    """The context for calling peers; None without certificates. Raises `MeshError` for a file that
    fails.

    With `tls_ca` a peer is whoever that authority signed, under any host name: peers are called by
    addresses that change. Without it the system's authorities must vouch for the name called.
    """
    if config.tls_cert is None:
        return None
    context = _client_context(config, PEERS, names=config.tls_ca is None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def dns_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names (DNS) in a certificate that TLS has checked."""
    shown = (certificate or {}).get("subjectAltName", ())
    return tuple(name for kind, name in shown if kind == "DNS")


def not_certified(names: Sequence[str], name: str) -> str:
    """What is wrong with the certificate of the node `name` that is for `names`."""
    return (
        f"certificate is for {', '.join(map(repr, names)) or 'no name'}, not for {name!r}: issue "
        f"one with {name!r} among its DNS names, or set mesh.identity: off on every node where all "
        "share one"
    )


def check_certified(config: MeshConfig, name: str) -> None:
    """Raises `MeshError` where this node's certificate is not for its name, as then no other node
    would link with it, and for a file that fails. A certificate that the authorities of this node
    have not signed is left to others to judge."""
    listener, dialer = listener_context(config), dialer_context(config)
    assert listener is not None, "who checks names has certificates"
    assert dialer is not None
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    served = listener.wrap_bio(inward, outward, server_side=True)
    calls = dialer.wrap_bio(outward, inward)
    try:
        for side in (calls, served):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
        calls.do_handshake()
    except ssl.SSLError:
        return
    names = dns_names(calls.getpeercert())
    if name not in names:
        raise MeshError(f"this node's {not_certified(names, name)}")


def engine_context(config: MeshConfig) -> ssl.SSLContext:
    """The context for calling an engine. Raises `MeshError` for a file that fails."""
    context = _client_context(config, "the engine's certificate", names=True)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _client_context(config: MeshConfig, signed: str, *, names: bool) -> ssl.SSLContext:
    """`names`: whether a certificate has to be for the host that is called."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = names and config.tls_verify_peer
    if not config.tls_verify_peer:
        context.verify_mode = ssl.CERT_NONE
    elif config.tls_ca is None:
        context.load_default_certs()
    _load(context, config, signed)
    return context


def _load(context: ssl.SSLContext, config: MeshConfig, signed: str) -> None:
    """The node's own certificate and key, and the authorities of the others, as far as they are
    given; these have `signed`."""
    cert, key, authorities = config.tls_cert, config.tls_key, config.tls_ca
    if cert is not None and key is not None:
        named = f"mesh.tls.cert {cert!r} with mesh.tls.key {key!r}"
        load_key_pair(context, cert, key, named, MeshError)
    if authorities is not None:
        load_authorities(context, authorities, f"mesh.tls.ca {authorities!r}", signed, MeshError)

"""TLS contexts of the mesh from certificate files: of peers, and of calls to a message engine.

Each new connection uses the files as they are then; one that exists keeps its certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from crdtbucket.base.address import why_distrusted
from crdtbucket.base.loaded_files import LoadedFiles, TlsFiles, load_authorities, load_key_pair
from crdtbucket.errors import MeshError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.mesh_config import MeshConfig

PEERS = "the mesh's certificates"
AUTHORITY = "give the authority that signed it as mesh.tls.ca"
NOT_TRUSTED = "does not trust this node's certificate (its log says why)"


def followed(config: MeshConfig, make: Callable[[MeshConfig], ssl.SSLContext | None]) -> TlsFiles:
    """The TLS context that `make` makes from the files, made again when they change. Raises
    `MeshError` for a file that fails."""
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

    With `tls_ca` a peer needs a certificate of that authority, under any host name, since the
    addresses of peers change. Without it one of the system's authorities must have signed the name
    that is called.
    """
    if config.tls_cert is None:
        return None
    context = _client_context(config, PEERS, names=config.tls_ca is None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def is_mutual(context: ssl.SSLContext | None) -> bool:
    """Whether a context for calling peers is of mutual TLS, which goes by no host names."""
    return (
        context is not None
        and context.verify_mode is ssl.CERT_REQUIRED
        and not context.check_hostname
    )


def calling(config: MeshConfig) -> TlsFiles:
    """The context for calling peers, followed as `followed` does. Whenever the files are loaded, it
    reports a certificate that this node itself would refuse, since Python's TLS does not pass on
    the reason of a peer that refuses it. Raises `MeshError`."""

    def load(config: MeshConfig) -> ssl.SSLContext | None:
        context = dialer_context(config)
        if fault := own_fault(config):
            LOG.error("%s", fault)
        return context

    return followed(config, load)


def tls_fault(error: ssl.SSLError) -> str:
    """Why TLS with a peer failed, as this node sees it, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted {why_distrusted(error, AUTHORITY)}"
    why = error.reason or error
    return f"TLS fails ({why}): has the peer mesh.tls.cert, and an authority that it knows?"


def own_fault(config: MeshConfig) -> str:
    """Why nodes with the same authorities refuse the certificate of this node, and what to do; ""
    if they accept it, or accept any. Raises `MeshError` for a file that fails."""
    if config.tls_cert is None or not config.mutual_tls:
        return ""
    _, error = _own_certificate(config)
    if not isinstance(error, ssl.SSLCertVerificationError):
        return ""
    fix = "issue one that the authorities of mesh.tls.ca sign, or correct that file"
    return (
        f"mesh.tls.cert {config.tls_cert!r} is refused by nodes with the same mesh.tls.ca "
        + why_distrusted(error, fix)
    )


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
    """Raises `MeshError` if this node's certificate is not for its name, since no other node would
    link with it, and for a file that fails. It does not judge a certificate that the authorities of
    this node have not signed."""
    names, error = _own_certificate(config)
    if error is None and name not in names:
        raise MeshError(f"this node's {not_certified(names, name)}")


def _own_certificate(config: MeshConfig) -> tuple[tuple[str, ...], ssl.SSLError | None]:
    """The names (DNS) in the certificate of this node, or why this node would refuse it from
    another one; found by a handshake with itself."""
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
    except ssl.SSLError as error:
        return (), error
    return dns_names(calls.getpeercert()), None


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
    """Loads the node's own certificate and key, and the authorities that have `signed` the others',
    as far as they are given."""
    cert, key, authorities = config.tls_cert, config.tls_key, config.tls_ca
    if cert is not None and key is not None:
        named = f"mesh.tls.cert {cert!r} with mesh.tls.key {key!r}"
        load_key_pair(context, cert, key, named, MeshError)
    if authorities is not None:
        load_authorities(context, authorities, f"mesh.tls.ca {authorities!r}", signed, MeshError)

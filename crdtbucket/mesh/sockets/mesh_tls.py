"""TLS contexts of the mesh from certificate files; both ends are ours, so TLS 1.3 only.

They are of the files as these are when a connection begins; one that exists keeps what it has."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial

from crdtbucket.base.loaded_files import LoadedFiles, TlsFiles
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.tls_files import load_tls_files


def listener_tls(config: MeshConfig) -> TlsFiles:
    """How peers are served. Raises `MeshError` for a file that fails."""
    return _followed(config, listener_context)


def dialer_tls(config: MeshConfig) -> TlsFiles:
    """How peers are called. Raises `MeshError` for a file that fails."""
    return _followed(config, dialer_context)


def _followed(config: MeshConfig, make: Callable[[MeshConfig], ssl.SSLContext | None]) -> TlsFiles:
    return LoadedFiles(config.tls_files, partial(make, config), LOG)


def listener_context(config: MeshConfig) -> ssl.SSLContext | None:
    """How peers are served; None without certificates. Raises `MeshError` for a file that fails."""
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, config)
    if config.mutual_tls:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def dialer_context(config: MeshConfig) -> ssl.SSLContext | None:
    """How peers are called; None without certificates. Raises `MeshError` for a file that fails.

    With `tls_ca` a peer is whoever that authority signed, under any host name: peers are called by
    addresses that change. Without it the system's authorities must vouch for the name called.
    """
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.tls_ca is not None or not config.tls_verify_peer:
        context.check_hostname = False
    if not config.tls_verify_peer:
        context.verify_mode = ssl.CERT_NONE
    _prepare(context, config)
    if config.tls_verify_peer and config.tls_ca is None:
        context.load_default_certs()
    return context


def _prepare(context: ssl.SSLContext, config: MeshConfig) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_tls_files(context, config, "the mesh's certificates")

"""Loads the TLS files of a mesh into a context, whoever is called with it: peers or an engine."""

from __future__ import annotations

import ssl

from crdtbucket.base.loaded_files import load_authorities, load_key_pair
from crdtbucket.errors import MeshError
from crdtbucket.mesh.mesh_config import MeshConfig


def load_tls_files(context: ssl.SSLContext, config: MeshConfig, signed: str) -> None:
    """The node's own certificate and key, and the authorities of the others, as far as they are
    given. `signed`: what these have signed, for messages. Raises `MeshError`."""
    cert, key, authorities = config.tls_cert, config.tls_key, config.tls_ca
    if (cert is None) is not (key is None):
        raise MeshError("mesh.tls.cert and mesh.tls.key go together: set both")
    if cert is not None and key is not None:
        named = f"mesh.tls.cert {cert!r} with mesh.tls.key {key!r}"
        load_key_pair(context, cert, key, named, MeshError)
    if authorities is not None:
        named = f"mesh.tls.ca {authorities!r}"
        load_authorities(context, authorities, named, signed, MeshError)

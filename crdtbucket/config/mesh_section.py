"""The section about the mesh, and the `MeshConfig` that it describes; each fault at its place."""

from __future__ import annotations

from crdtbucket.config.check import as_keys, masked, report_problem, validate
from crdtbucket.config.section import Section
from crdtbucket.config.settings_section import file_keys, given, keys_of
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.errors import ConfigError, MeshError
from crdtbucket.mesh.mesh_config import MeshConfig


@keys_of(MeshConfig, cert="tls_cert", key="tls_key", ca="tls_ca", verify_peer="tls_verify_peer")
class MeshTlsSection(Section):
    """Encryption towards peers, or towards the engine."""


@keys_of(MeshConfig)
class MeshSection(Section):
    """This node's part in the mesh; see `MeshConfig`, which checks what goes together."""

    tls: MeshTlsSection | None = None


MESH_KEYS = file_keys(MeshSection)
"""What a file calls the fields of `MeshConfig`, below its `mesh`."""


def mesh_config(node: YamlNode, source: Source) -> MeshConfig | None:
    """The settings that `node`, a section `mesh`, describes; None where it has faults, which are
    then in `source`."""
    mesh = validate(MeshSection, node, source)
    if mesh is None:
        return None
    try:
        return MeshConfig(**given(mesh))
    except ConfigError as error:
        for problem in error.problems:
            field = problem.path.removeprefix("mesh.")
            report_problem(problem, MESH_KEYS.get(field, field), node, source, _as_keys)
    except MeshError as error:
        place, _ = node.find(("listen",))
        message, _, fix = str(error).removeprefix("mesh.").partition(": ")
        source.report_at(place, masked(message, node), _as_keys(fix))
    return None


def _as_keys(text: str) -> str:
    return as_keys(text, MESH_KEYS)

"""`crdtbucket serve`: the limiter of a file over HTTP, for services in any language."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sized
from pathlib import Path
from typing import Any

import click

from crdtbucket.cli.options import FiniteRange
from crdtbucket.errors import CrdtbucketError

DEFAULT_LISTEN = "127.0.0.1:7980"
DEFAULT_MAX_KEYS = 1_000_000
MAX_TOKEN_BYTES = 4_096
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
TEXT_FILE = click.Path(exists=True, dir_okay=False)


@click.command(epilog="Example: crdtbucket serve --config limits.yaml")
@click.option(
    "--config", "path", type=FILE, required=True, help="The configuration file.",
)  # fmt: skip
@click.option("--node", default=None, help="This node's name, instead of the file's.")
@click.option("--region", default=None, help="This node's region, instead of the file's.")
@click.option(
    "--listen", multiple=True, default=(DEFAULT_LISTEN,), show_default=True, metavar="ADDRESS",
    help="host:port, or unix:/path; may be given several times.",
)  # fmt: skip
@click.option(
    "--grpc", default=None, metavar="ADDRESS",
    help="host:port, or unix:/path, where Envoy's rate limit services are answered.",
)  # fmt: skip
@click.option(
    "--allow-host", "allowed_hosts", multiple=True, metavar="NAME",
    help="Answer requests made to this name too, and pages of it; * for any. May be given several "
    "times. Without: the addresses listened on, and localhost.",
)  # fmt: skip
@click.option(
    "--token-file",
    type=FILE,
    default=None,
    help="A file with the token that /v1/ asks for; without it that is open.",
)
@click.option(
    "--admin-token-file",
    type=FILE,
    default=None,
    help="A file with the token that /admin/ asks for; without it that is off.",
)
@click.option(
    "--tls-cert",
    type=TEXT_FILE,
    default=None,
    help="PEM file of the certificate, with which TCP addresses are served by TLS. A changed file "
    "comes into use by itself.",
)
@click.option("--tls-key", type=TEXT_FILE, default=None, help="PEM file of its key, not encrypted.")
@click.option(
    "--insecure", is_flag=True,
    help="Listen where other hosts reach it without a token or without TLS, too.",
)  # fmt: skip
@click.option("--legacy-fields", is_flag=True, help="Answer with X-RateLimit-* too.")
@click.option(
    "--fallback-503", is_flag=True,
    help="Deny with 503 instead of 429 while a bucket decides by the rule of an outage.",
)  # fmt: skip
@click.option(
    "--retry-jitter", type=FiniteRange(0, 3600), default=0.0, show_default=True,
    help="Add up to so many seconds to Retry-After.",
)  # fmt: skip
@click.option(
    "--max-connections", type=click.IntRange(1, 100_000), default=1_000, show_default=True,
    help="Connections at once, of HTTP and of gRPC each; a further one of HTTP is answered for "
    "health and the admin side only.",
)  # fmt: skip
@click.option(
    "--max-connections-per-address", type=click.IntRange(0, 100_000), default=0, show_default=True,
    help="Connections at once from one address of another host, IPv6 by its /64; 0: half of all.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Processes that serve, over one shared table.",
)  # fmt: skip
@click.option(
    "--max-keys", type=click.IntRange(16, 2**30), default=DEFAULT_MAX_KEYS, show_default=True,
    help="Keys that the table holds at once, of all buckets.",
)  # fmt: skip
@click.option(
    "--drain", "drain_deadline", type=FiniteRange(0, 600), default=10.0, show_default=True,
    help="Seconds for requests under way at the end.",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
    show_default=True, help="What is logged, on stderr. Requests never are.",
)  # fmt: skip
def serve(
    path: Path,
    node: str | None,
    region: str | None,
    token_file: Path | None,
    admin_token_file: Path | None,
    workers: int,
    max_keys: int,
    max_connections: int,
    log_level: str,
    **serving: Any,
) -> None:
    """Serve the limiter of a configuration file over HTTP: a sidecar for any language.

    A changed file comes into force by itself, and on SIGHUP at once; a wrong one is logged, and
    the configuration in force stays. SIGTERM ends it in order: it answers open requests, leaves the
    mesh and keeps a snapshot. A second signal ends it at once.
    """
    # The server of aiohttp, YAML, metrics: for those who serve.
    from crdtbucket.config import load_config
    from crdtbucket.http.server.open_files import connections_within_open_files
    from crdtbucket.http.server.serve_settings import ServeSettings
    from crdtbucket.http.server.serving import SidecarServer
    from crdtbucket.http.server.serving import serve as run
    from crdtbucket.http.server.worker_folder import remove_abandoned_folders
    from crdtbucket.http.server.workers import run_loop, run_workers
    from crdtbucket.limiter.facade import Limiter
    from crdtbucket.limiter.node_identity import Identity
    from crdtbucket.shared.shared_file import AUTO

    process = "[%(process)d] " if workers > 1 else ""
    logging.basicConfig(
        level=log_level.upper(), format=f"%(asctime)s {process}%(levelname)s %(name)s: %(message)s"
    )
    remove_abandoned_folders()
    settings = ServeSettings(
        token=_token("token", token_file),
        admin_token=_token("admin token", admin_token_file),
        config=str(path),
        max_connections=connections_within_open_files(
            max_connections, 1 if serving["grpc"] is None else 2
        ),
        **serving,  # options with the names of their fields
    )
    shared: str | None = None

    def make() -> Limiter:
        return Limiter.from_file(
            path, node=node, region=region, watch=True, shared=shared, max_keys=max_keys
        )

    if workers > 1:
        config = load_config(path)
        _need_bucket(path, config.buckets)
        # Workers need a shared table, also when the file names none.
        shared = None if config.shared else AUTO
        Identity.checked(node or config.node, "", config.mesh, config.shared or shared)
        sys.exit(run_workers(workers, make, settings))
    limiter = make()
    _need_bucket(path, limiter.buckets)
    run_loop(run(SidecarServer(limiter, settings), limiter))


def _need_bucket(path: Path, buckets: Sized) -> None:
    """Raises for a limiter without buckets: its file was cut short, or is not the one that was
    meant."""
    if not buckets:
        fix = "add services: with a bucket, such as {api: {limit: 100/minute}}"
        raise CrdtbucketError(f"{path}: no bucket is defined: {fix}")


def _token(named: str, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES + 1).decode("ascii")
    except OSError as error:
        raise CrdtbucketError(f"{path}: the {named} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CrdtbucketError(f"{path}: the {named} must be ASCII text") from error
    if len(text) > MAX_TOKEN_BYTES:  # cut, it would refuse every client that has all of it
        raise CrdtbucketError(f"{path}: the {named} has more than {MAX_TOKEN_BYTES:,} bytes")
    return text.strip()

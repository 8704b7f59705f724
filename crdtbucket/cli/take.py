"""`crdtbucket take`, `peek` and `reset`: one key of one bucket, on a node that serves."""

from __future__ import annotations

import sys
from typing import Any

import click

from crdtbucket.base.counted import counted
from crdtbucket.cli.answer_values import number_of
from crdtbucket.cli.node_options import NodeOptions, node_options
from crdtbucket.cli.options import say, with_options
from crdtbucket.cli.signing_options import SigningOptions, signing_options
from crdtbucket.cli.terminal_text import printable, seconds
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.mode import Mode

DENIED = 1


_decision = with_options(
    click.argument("bucket"),
    click.argument("key"),
    click.argument("cost", type=click.IntRange(1), default=1),
    node_options,
)


@click.command(epilog="Example: crdtbucket take api tenant-42 30")
@_decision
def take(**asked: Any) -> None:
    """Take COST tokens (1 by default) of KEY in BUCKET, as a service's call would.

    Exit status: 0 when they were there, 1 when it was denied, 2 for an error.
    """
    _decide("take", **asked)


@click.command(epilog="Example: crdtbucket peek api tenant-42 30")
@_decision
def peek(**asked: Any) -> None:
    """Ask whether KEY in BUCKET has COST tokens (1 by default), and take nothing.

    Exit status: 0 when they are there, 1 when a take would be denied, 2 for an error.
    """
    _decide("peek", **asked)


@click.command(epilog="Example: crdtbucket reset api tenant-42 --token-file token")
@click.argument("bucket")
@click.argument("key")
@signing_options(required=False, when=": needed where the nodes have any")
@node_options
def reset(bucket: str, key: str, signing: SigningOptions, node: NodeOptions, json_: bool) -> None:
    """Give back what the node has charged to KEY in BUCKET, and send that to the mesh.

    What other nodes have charged stays: reset there, too. With an operator's --key, which nodes
    with mesh.operator_keys ask for, every node of the mesh does it. Each node writes a line to its
    audit log. Needs the admin token.
    """
    order = None if signing.key_file is None else _signed_reset(bucket, key, signing)
    answer = node.ask(lambda n: n.reset(bucket, key) if order is None else n.order(order))
    if order is not None:
        words = "reset: taken, and passed on" if answer.get("new") is True else "held already"
    else:
        left = f"{answer['remaining']:,} of {answer['limit']:,} left"
        words = f"reset: {counted(answer['given_back'], 'token')} came back, {left}"
    say(answer, json_, [words])


def _signed_reset(bucket: str, key: str, signing: SigningOptions) -> str:
    from crdtbucket.mesh.links.command_orders import CommandOrder

    name = canonical_name(bucket)
    order = CommandOrder.reset(signing.key(), signing.mesh_name, name, key, signing.number)
    return order.as_text()


def _decide(what: str, bucket: str, key: str, cost: int, node: NodeOptions, json_: bool) -> None:
    decision = node.ask(lambda asked: asked.decide(what, bucket, key, cost))
    say(decision, json_, [in_words(decision)])
    sys.exit(0 if decision["allowed"] else DENIED)


def in_words(decision: dict[str, Any]) -> str:
    """A decision in one line. For a decision by the rule of an outage it is the node's own text, as
    the numbers are not those of the bucket."""
    parts = ["allowed" if decision["allowed"] else "denied"]
    detail = decision.get("detail")
    if decision.get("mode") == Mode.FALLBACK.value and isinstance(detail, str):
        parts.append(printable(detail))
        decision = {"mode": decision["mode"]}
    if isinstance(decision.get("remaining"), int) and isinstance(decision.get("limit"), int):
        parts.append(f"{decision['remaining']:,} of {decision['limit']:,} left")
    for field, word in (("retry_after", "retry in"), ("reset_after", "full in")):
        value = number_of(decision.get(field))
        if value is not None and value > 0:
            parts.append(f"{word} {seconds(value)}")
    if isinstance(decision.get("mode"), str):
        parts.append(f"mode {printable(decision['mode'])}")
    return f"{parts[0]}: {', '.join(parts[1:])}" if parts[1:] else parts[0]

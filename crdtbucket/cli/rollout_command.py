"""`crdtbucket rollout`: how far a version is, and the commands that move it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from crdtbucket.cli.answer_values import mapping_of, number_of, text_of
from crdtbucket.cli.node_options import NodeOptions, node_options
from crdtbucket.cli.options import say
from crdtbucket.cli.signing_options import SigningOptions, signing_options
from crdtbucket.cli.terminal_text import printable, seconds
from crdtbucket.errors import CrdtbucketError

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient
    from crdtbucket.mesh.links.command_orders import CommandOrder

STOPPED = 1
NONE = "no version is being rolled out"


@click.command(epilog="Example: crdtbucket rollout advance --token-file token")
@click.argument(
    "action", type=click.Choice(["status", "advance", "halt", "rollback"]), default="status"
)
@signing_options(required=False, when=": needed where the nodes have any")
@node_options
def rollout(action: str, signing: SigningOptions, node: NodeOptions, json_: bool) -> None:
    """Show how far the newest version of a node is (status), or move it.

    advance: to the next stage, after a halt as well. halt: leave it as it is. rollback: put the
    version before back. A command at one node holds for all that have the version, and the node
    writes a line to its audit log. Needs the admin token, and with mesh.operator_keys an operator's
    --key: every node checks the signature. Exit status of status: 0, or 1 when it is halted or was
    rolled back; of the others 0; 2 for an error.
    """

    refused: list[str] = []

    async def moved(asked: NodeClient) -> Any:
        if action != "status" and signing.key_file is None:
            return await asked.rollout(action)
        status = await asked.status()
        state, fault = status.get("rollout"), text_of(mapping_of(status.get("config")).get("fault"))
        if fault:
            refused.append(f"the newest file was refused: {fault}")
        if action == "status":
            return state
        order = _signed(action, state, signing, refused)
        await asked.order(order.as_text())
        if not json_:
            click.echo(f"signed: {order.in_words()}")
        return (await asked.status()).get("rollout")

    answer = node.ask(moved)
    lines = in_words(answer) if isinstance(answer, Mapping) else [NONE]
    say(answer, json_, [*lines, *refused])
    stopped = isinstance(answer, Mapping) and answer.get("status") in ("halted", "rolled back")
    sys.exit(STOPPED if action == "status" and stopped else 0)


def _signed(
    action: str, state: Any, signing: SigningOptions, refused: Sequence[str]
) -> CommandOrder:
    """The order that brings a version from where the node says it is to where the action does.
    `refused`: what the node says of a file that it refused."""
    from crdtbucket.mesh.links.command_orders import CommandOrder
    from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage
    from crdtbucket.rollout.staged import Position, Rollout, Status

    if not isinstance(state, Mapping):
        raise CrdtbucketError("; ".join([NONE, *refused]))
    try:
        status = {str(one): one for one in Status}[state["status"]]
        at = Position(state["version"], int(state["hash"], 16), 0, status, state["stage"] - 1)
        plan = RolloutPlan((Stage(),) * state["stages"])
        moved = Rollout(plan, at, "", 0)
        getattr(moved, action)(0)
    except (KeyError, TypeError, ValueError) as error:
        raise CrdtbucketError(f"the node does not say how its roll-out stands: {error}") from error
    return CommandOrder.rollout(signing.key(), signing.mesh_name, moved.position, signing.number)


def in_words(state: Mapping[str, Any]) -> Iterator[str]:
    """The state of a roll-out, in lines."""
    reason = text_of(state.get("reason"))
    yield (
        f"version {_number(state, 'version'):.0f} after {_number(state, 'before'):.0f}: "
        f"{text_of(state.get('status'))}{f' ({reason})' if reason else ''}"
    )
    hold = number_of(state.get("hold"))
    last = ", until the command" if hold is None else f" of {seconds(hold)}"
    yield (
        f"  stage {_number(state, 'stage'):.0f} of {_number(state, 'stages'):.0f}: "
        f"{text_of(state.get('reach'))}; for {seconds(_number(state, 'since'))}{last}"
    )
    yield f"  on this node: {_number(state, 'percent'):.0f}% of the keys"
    for name, sides in mapping_of(state.get("buckets")).items():
        counts = [f"{side} {_side(mapping_of(sides).get(side))}" for side in ("old", "new")]
        yield f"  {printable(str(name))}: {', '.join(counts)}"


def _side(side: Any) -> str:
    counts = mapping_of(side)
    admitted, denied = _number(counts, "admitted"), _number(counts, "denied")
    share = denied / (admitted + denied) if admitted + denied else 0.0
    return f"{admitted:,.0f} admitted and {denied:,.0f} denied ({share:.0%})"


def _number(state: Mapping[str, Any], field: str) -> float:
    return number_of(state.get(field)) or 0

"""This limiter's node of the mesh: its protocol and its network."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crdtbucket.base.clock import NS_PER_SECOND, WallClock
from crdtbucket.errors import MeshError, NodeConflict
from crdtbucket.limiter.background import Service
from crdtbucket.limiter.node_identity import Identity
from crdtbucket.limiter.operator_commands import OperatorCommands
from crdtbucket.limiter.operator_overrides import OperatorOverrides
from crdtbucket.limiter.saved_state import SavedState
from crdtbucket.limiter.stats import fleet_row, mesh_stats
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.staged import Position, row_of
from crdtbucket.shared.table_file import shared_stats
from crdtbucket.spec.mode import worst

if TYPE_CHECKING:
    from crdtbucket.mesh.links.command_orders import CommandBook
    from crdtbucket.mesh.mesh_config import MeshConfig
    from crdtbucket.mesh.protocol.mesh_node import MeshNode
    from crdtbucket.mesh.transport.mesh_network import MeshNetwork
    from crdtbucket.rollout.in_force import InForce
    from crdtbucket.rollout.live_rollout import LiveRollout

LOG = logging.getLogger("crdtbucket")


class LocalNode:
    """The node of one limiter in the mesh. Without a mesh it does nothing."""

    def __init__(
        self,
        identity: Identity,
        in_force: InForce,
        overrides: OperatorOverrides,
        wall: WallClock,
    ) -> None:
        """Nothing runs yet. `overrides`: operators' limits. `wall`: the calendar's clock."""
        self.identity = identity
        self.machine: MeshNode | None = None
        """The protocol of this node, once it was opened with a mesh."""
        self.saved = SavedState(in_force.tables.main, in_force.strong)
        """The state that outlives the process."""
        self._mesh: MeshNetwork | None = None
        self._ended = False
        self._in_force = in_force
        self._table = in_force.tables.main
        self._file = in_force.tables.file
        self._overrides = overrides
        self._wall = wall
        self._commands: CommandBook | None = None
        self._obeys: OperatorCommands | None = None
        self._running: tuple[int, int, int] | None = None
        self._position: Position | None = None
        if identity.mesh is not None:
            _import_network(identity.mesh)

    @property
    def mesh(self) -> MeshNetwork | None:
        """The network of the node while there is one. It is None once the limiter is closed, even
        while a process that is about to lead a shared table is still starting a network."""
        return None if self._ended else self._mesh

    @property
    def alone(self) -> bool:
        """Whether this node shares its limits with no other."""
        return self.identity.mesh is None

    def advertise(self, running: tuple[int, int, int] | None, position: Position | None) -> None:
        """From now on, advertises to the peers which configuration runs here (version, hash,
        stage), and the state of its roll-out."""
        self._running, self._position = running, position
        if self.machine is not None:
            self.machine.updates.advertise(running, row_of(position))
        self.follow_wall()  # a new calendar bucket does not wait for the next beat

    @property
    def signs(self) -> bool:
        """Whether commands that affect other nodes have to be signed by an operator."""
        mesh = self.identity.mesh
        return mesh is not None and bool(mesh.operator_keys)

    def ordered(self, version: int, content: int) -> Position | None:
        """The position to which an operator has ordered a version, as far as this process knows;
        None if operators sign nothing."""
        if self._commands is None or not self.signs:
            return None
        order = self._commands.ordered(version, content)
        return None if order is None else order.position

    def service(self, rolling: LiveRollout) -> Service | None:
        """The service that runs the mesh; None without a mesh. `rolling`: the roll-out, which peers
        and operators move. Raises `MeshError` for a state directory that cannot be used."""
        given, file = self.identity.mesh, self._file
        if given is None:
            return None
        from crdtbucket.mesh.links.command_orders import CommandBook
        from crdtbucket.mesh.links.operator_orders import OperatorBooks
        from crdtbucket.mesh.links.peer_keys import load_for, peer_keys_of
        from crdtbucket.mesh.transport.carriers import carrier_of
        from crdtbucket.mesh.transport.mesh_network import MeshNetwork

        carrier = carrier_of(given)
        load_for(given)
        self._obeys = obeys = OperatorCommands(self._in_force, rolling)

        def make() -> MeshNetwork:
            config = self.identity.mesh or given
            protocol = self._protocol(config, rolling)
            state = self.saved.directory
            self._commands = CommandBook(
                config.operator_keys,
                config.mesh_name,
                None if state is None else state.commands,
                obeys.obey,
            )
            mesh = MeshNetwork(
                protocol,
                config,
                self._table.now,
                carrier=carrier,
                hash_key=self._table.hash_key,
                peer_keys=peer_keys_of(config, self.identity.node, state),
                books=OperatorBooks(self._commands, self._overrides.book),
            )
            self._mesh = mesh
            return mesh

        if file is None:
            return make()
        from crdtbucket.shared.leadership import Leadership

        return Leadership(self._table, file, make, self)

    def order(self, text: str) -> bool:
        """Gives the mesh an operator's order; False if it is in force already. Raises
        `MeshError`."""
        from crdtbucket.mesh.links.command_orders import CommandOrder, order_from

        order = order_from(text)
        mesh = self.mesh
        if mesh is None:
            raise MeshError(
                "this process has no mesh that runs, or another one speaks to the peers for it: "
                "give the order to that one, or to another node"
            )
        if isinstance(order, CommandOrder):
            assert self._obeys is not None, "a mesh that runs was made by service"
            self._obeys.check(order)
        return mesh.orders.order(order)

    def check_key(self, mesh: MeshConfig) -> None:
        """Raises `MeshError` if this node cannot use the identity key that `mesh` names."""
        from crdtbucket.mesh.links.peer_keys import key_under

        running = self.mesh
        own = None if running is None else running.peer_keys.own
        key_under(mesh, self.identity.node, own)

    def renew(self, mesh: MeshConfig) -> None:
        """The mesh has the secrets and keys of `mesh` from now on."""
        self.identity = replace(self.identity, mesh=mesh)
        self._overrides.change(mesh)
        if (running := self.mesh) is not None:
            running.renew(mesh)

    def view(self) -> dict[str, Any] | None:
        """The leader's view of the mesh, for the other processes of a shared table. None in the
        leader itself, without a mesh, and before the leader has written one."""
        if self.alone or self._file is None or self.mesh is not None:
            return None
        from crdtbucket.shared import leader_view

        return leader_view.read(self._table)

    def fleet(self) -> list[dict[str, Any]]:
        """This node and each peer with the configuration that it runs, by name."""
        machine, view = self.machine, self.view()
        if machine is not None:
            return [fleet_row(*row) for row in machine.fleet(self._table.now())]
        if view is not None:
            return [fleet_row(*row) for row in view["fleet"]]
        me = self.identity
        return [fleet_row(me.node, me.region, "alive", self._running, row_of(self._position))]

    def stats(self) -> dict[str, Any]:
        """Numbers of the mesh and of the shared table, as far as there are any."""
        out: dict[str, Any] = {}
        if self._file is not None:
            out["shared"] = shared_stats(self._file, self._table)
        mesh, machine = self.mesh, self.machine
        if mesh is not None and machine is not None:
            out |= mesh_stats(mesh, machine, self.saved, self._table.now())
        elif (view := self.view()) is not None:
            out["shared"] |= {name: view.pop(name) for name in ("view_age", "omitted")}
            del view["fleet"]
            out |= view
        return out

    def fail(self) -> None:
        """The start did not succeed: nothing is left behind."""
        self._mesh = self.machine = None
        self.saved.give_up()

    def release(self) -> None:
        """Saves a last snapshot, and gives the state directory up."""
        self.saved.release()

    def end(self) -> None:
        """The limiter is closed: `mesh` is None from now on."""
        self._ended = True

    def tell_address(self) -> None:
        """Advertises where this node listens, now that it does."""
        # Only ":port", since only other hosts know the name under which they reach this one.
        mesh, machine = self.mesh, self.machine
        if mesh is not None and machine is not None and not mesh.address.startswith(":"):
            machine.listens(mesh.address)

    def beat(self) -> None:
        """Compares the wall clocks, and advertises the worst mode; to be called about every
        second."""
        self.follow_wall()
        modes = {bucket.mode for bucket in self._in_force.made}
        if self.machine is not None and modes:
            self.machine.updates.advertise_mode(worst(modes))

    def follow_wall(self) -> None:
        """Compares the wall clock with the peers'."""
        machine, wall = self.machine, self._wall
        if self.alone:
            return
        now, shows, moved = self._table.now(), wall.machine_ns(), 0
        if machine is not None:
            moved = machine.follow_wall(shows, now)
        elif not any(bucket.spec.period is not None for bucket in self._in_force.made):
            return  # no bucket needs the wall clock, and reading the view may take long
        elif (view := self.view()) is not None:
            moved = round(view["mesh"]["wall_clock_moved"] * NS_PER_SECOND)
        wall.follow(shows - now + moved)

    def show(self) -> None:
        """Writes what this process, which leads, knows of the mesh into the shared table."""
        from crdtbucket.shared import leader_view

        mesh, machine = self.mesh, self.machine
        if mesh is not None and machine is not None:
            now = self._table.now()
            stats = mesh_stats(mesh, machine, self.saved, now)
            leader_view.publish(self._table, stats, machine.fleet(now))

    def _protocol(self, config: MeshConfig, rolling: LiveRollout) -> MeshNode:
        from crdtbucket.mesh.protocol.mesh_node import MeshNode

        shared = self._file is not None
        # Whether another process began this epoch.
        goes_on = shared and bool(self._table.sharing.read_handoff())
        node = MeshNode(
            self._table,
            config,
            name=self.identity.node,
            region=self.identity.region,
            address=config.advertise or "",
            shared=shared,
        )
        node.subscribe(refusal=self._refused, rollout=rolling.receive)
        node.updates.advertise(self._running, row_of(self._position))
        self.machine = node
        if config.state_dir is not None:
            directory = StateDir(config.state_dir, self.identity.node)
            self.saved.begin(
                directory, node.memory, self.identity.node, shared=shared, goes_on=goes_on
            )
        return node

    def _refused(self, _: NodeConflict) -> None:
        # From now on every decision raises; callers that wait for tokens look again, and raise as
        # well.
        self._in_force.wake_waiters()


def _import_network(mesh: MeshConfig) -> None:
    """Imports what a mesh needs, so that workers which are forked from a process with a limiter
    need not do it."""
    import crdtbucket.shared.leadership  # noqa: F401 - `service` uses it
    from crdtbucket.mesh.links.peer_keys import load_for
    from crdtbucket.mesh.transport.carriers import carrier_of

    with suppress(MeshError):  # `service` raises it
        carrier_of(mesh)
        load_for(mesh)

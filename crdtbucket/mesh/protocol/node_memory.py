"""The memory of a node from before its start: from a snapshot, from its peers, or from the process
that led the shared table before.

A node that began without memory is *warming up*: it serves only its share of each limit until its
first complete round from a peer, or for two seconds.
"""

from __future__ import annotations

import logging

from crdtbucket._core import Table
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.handoff import HandoffRecord, dump, load, member_rows
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import NEVER, PeerState
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.rounds import Outbox

LOG = logging.getLogger("crdtbucket.mesh")

WARM_UP_NS = 2_000_000_000
"""The longest time (ns) for which a node without memory serves only its share of a key."""
SETTLED_NS = 1_000_000_000
"""This long after that time, the debts that a peer without memory has restored are final."""
SETTLED_PLACES = 131_072
"""Places of the table on which suspect debts are settled in one round: some ten milliseconds."""


class NodeMemory:
    """Keeps track of what a node knows from before its start. Times are local ns."""

    def __init__(
        self,
        table: Table,
        roster: Roster,
        members: Membership,
        out: Outbox,
        *,
        shared: bool,
    ) -> None:
        """`shared`: other processes use the table, and one of them may follow this one."""
        self._table, self._roster, self._members, self._out = table, roster, members, out
        self._name = roster.names()[0]
        now = table.now()
        self._shared = shared
        self._record = load(table.sharing.read_handoff()) if shared else None
        self.started = now if self._record is None else self._record.began
        """When this node began, in whichever of the processes that share the table."""
        self.complete = False
        """Whether a complete round for this process has come, so that levels are the mesh's."""
        self._restored: list[bytes] = []
        """The snapshot that this node began with, while some of it is suspect."""
        self._suspect, self._suspect_since = table.inbox.suspects > 0, now
        """Whether some restored debts are suspect, and since when: they become final after a while,
        unless a peer with memory answers."""
        self._cancelled = False
        self._settled, self._place = 0, -1
        """How many suspect keys have been settled, and the place of the table from which the others
        follow; -1 while it is not decided how to settle them."""

    def begin(self, peers: int, now: int) -> None:
        """Goes on from the record of another process; or warms up, where there are `peers` to
        ask."""
        record = self._record
        if record is not None:
            self._members.take_over(record.links(now, self._roster.node), now)
        if peers and not (record is not None and record.memory):
            self._out.flag(wire.JOINING, on=True)
            self._table.nodes.configure(warming_up_until=now + WARM_UP_NS, members=1 + peers)
        else:
            self.remember(now)

    def remember(self, now: int) -> None:
        """The levels here are those of the mesh: the node has warmed up."""
        self.complete = True
        self._out.flag(wire.JOINING, on=False)
        self._table.nodes.configure(warming_up_until=NEVER)
        self._members.expect(1, now)
        self.note()

    def round_completed(self, link: PeerState, now: int) -> None:
        """A complete round for this process has come from a peer."""
        if self.peer_has_memory(link) and self._place < 0:
            self._settle(cancelled=True)
        if not self.complete:
            self.remember(now)

    def settle_when_due(self, now: int) -> None:
        """After two seconds without a peer with memory, suspect debts become final. Goes on
        settling them, whatever was decided."""
        if self._place >= 0:
            self._settle_some()
        elif self._suspect and now - self._suspect_since >= WARM_UP_NS:
            self._settle(cancelled=False)

    def peer_has_memory(self, link: PeerState) -> bool:
        """Whether some debts are suspect here, and this peer knows the debts of the mesh: when this
        node began, the peer had run for longer than debts can stay suspect. Of nodes that start
        together none has memory."""
        ran = self._suspect_since - link.started
        return self._suspect and ran >= WARM_UP_NS + SETTLED_NS

    def note(self) -> None:
        """Writes the record for the process that leads next, when it has changed."""
        if not self._shared:
            return
        rows = member_rows(self._members.links.values())
        record = HandoffRecord(self.started, self.complete, rows)
        if record != self._record:
            self._record = record
            self._table.sharing.write_handoff(dump(record))

    def snapshot(self) -> list[bytes]:
        """The counts and debts of this node, in pieces, to start from after a restart. As long as
        debts of the previous snapshot are suspect, it returns that snapshot: a new one would carry
        this boot's id, and its debts would be believed."""
        return self._restored or snapshot.dump(self._table, self._roster)

    def restore(self, data: bytes, boot: bytes | None = None) -> None:
        """Takes a snapshot of an earlier epoch. `boot`: the id of this machine's boot; None to ask
        the machine. Raises OtherFormat for one of another version of the library, MeshError when it
        is none."""
        snapshot.load(self._table, self._roster, data, boot)
        self._members.pruner.remember()
        if self._table.inbox.suspects:
            self._restored = [data]
            self._suspect, self._suspect_since = True, self._table.now()

    def _settle(self, *, cancelled: bool) -> None:
        self._cancelled, self._settled, self._place = cancelled, 0, 0
        self._settle_some()

    def _settle_some(self) -> None:
        settled, self._place = self._table.inbox.settle_suspects(
            self._cancelled, self._place, SETTLED_PLACES
        )
        self._settled += settled
        if self._place >= 0:
            return
        self._restored, self._suspect = [], False
        LOG.info(
            "%s: of the keys of a snapshot whose age is not known, %d %s",
            self._name,
            self._settled,
            "are full or unknown to the peers, and full here"
            if self._cancelled
            else "owe what it says: no peer has answered that knew better",
        )

"""Changes of `tests.mutants` that no test can notice, as the program does the same."""

from __future__ import annotations

FALSE = "None is as false as False."
UNREAD = "It is set before it is read."
UNASKED = "What is left does not depend on the cost."
COMPARED = "It is only asked whether two such counts are the same."
ROUNDED = "It is rounded away."
SIGNED = "Key and signature are set by `signed_with`."
SMALL = "No jump is so small."
SAME = "Of two that are the same it does not matter which is returned."
UNMOVED = "No clock is moved by so little."


def changed(why: str, line: str, *changes: str) -> dict[str, str]:
    """These changes of one line, and why nobody can see them."""
    return {f"{line} => {change}": why for change in changes}


EQUIVALENT: dict[str, dict[str, str]] = {
    "mesh/links/ejections": changed(
        SIGNED,
        'return cls(subject, counter, ejected, b"", b"").signed_with(key, mesh_name)',
        'return cls(subject, counter, ejected, None, b"").signed_with(key, mesh_name)',
        'return cls(subject, counter, ejected, b"", None).signed_with(key, mesh_name)',
        'return cls(subject, counter, ejected, b"XXXX", b"").signed_with(key, mesh_name)',
        'return cls(subject, counter, ejected, b"", b"XXXX").signed_with(key, mesh_name)',
    )
    | changed(
        SIGNED,
        'return cls(name, counter, to, b"", b"").signed_with(key, mesh_name)',
        'return cls(name, counter, to, None, b"").signed_with(key, mesh_name)',
        'return cls(name, counter, to, b"", None).signed_with(key, mesh_name)',
        'return cls(name, counter, to, b"XXXX", b"").signed_with(key, mesh_name)',
        'return cls(name, counter, to, b"", b"XXXX").signed_with(key, mesh_name)',
    ),
    "mesh/links/order_book": changed(
        "Only orders of commands, in the other class, look at it.",
        'lacks = "" if order.about in self._rows else self._make_room(order)',
        'lacks = "" if order.about in self._rows else self._make_room(None)',
    )
    | changed(
        "Only orders of commands, in the other class, forget anything.",
        "self._forget(self._kept)",
        "self._forget(None)",
    )
    | changed(FALSE, "self.remembers = False", "self.remembers = None"),
    "mesh/links/override_book": changed(
        "No key is empty.",
        'first = after if bucket is None or after > (bucket, "") else (bucket, "")',
        'first = after if bucket is None or after >= (bucket, "") else (bucket, "")',
    )
    | changed(
        "Only the keys are read.",
        "self._shards[shard][about] = None",
        'self._shards[shard][about] = ""',
    ),
    "mesh/protocol/clock_watch": changed(
        SMALL,
        "moves = [moved for _, moved in self._seen if (moved > 0) == (by > 0)]",
        "moves = [moved for _, moved in self._seen if (moved >= 0) == (by > 0)]",
        "moves = [moved for _, moved in self._seen if (moved > 1) == (by > 0)]",
        "moves = [moved for _, moved in self._seen if (moved > 0) == (by >= 0)]",
    )
    | changed(
        SMALL,
        "self._seen = [one for one in self._seen if (one[1] > 0) != (by > 0)]",
        "self._seen = [one for one in self._seen if (one[1] >= 0) != (by > 0)]",
        "self._seen = [one for one in self._seen if (one[1] > 1) != (by > 0)]",
        "self._seen = [one for one in self._seen if (one[1] > 0) != (by >= 0)]",
        "self._seen = [one for one in self._seen if (one[1] > 0) != (by > 1)]",
    )
    | changed(
        SMALL,
        "if abs(by) <= JUMP_NS or (len(moved) == 1 and by < 0):",
        "if abs(by) <= JUMP_NS or (len(moved) == 1 and by <= 0):",
        "if abs(by) <= JUMP_NS or (len(moved) == 1 and by < 1):",
    )
    | changed(
        SMALL,
        "moved = passed - self._interval_ns if passed >= 0 else passed",
        "moved = passed - self._interval_ns if passed > 0 else passed",
        "moved = passed - self._interval_ns if passed >= 1 else passed",
    )
    | changed(
        ROUNDED,
        "drift = max(0, self.latest - self.compared) * DRIFT_PPM // 1_000_000",
        "drift = max(1, self.latest - self.compared) * DRIFT_PPM // 1_000_000",
    )
    | changed(
        ROUNDED,
        "self._unexplained = max(0, self._unexplained - max(0, passed) // STEADY)",
        "self._unexplained = max(0, self._unexplained - max(1, passed) // STEADY)",
    ),
    "mesh/protocol/entry_merger": changed(
        FALSE,
        "link.peer_tables.popitem(last=False)",
        "link.peer_tables.popitem(last=None)",
    ),
    "mesh/protocol/horizon": changed(
        "Any place below 0 says that it is there.",
        "self._moving, self._place = nodes.near_ns, -1",
        "self._moving, self._place = nodes.near_ns, -2",
    ),
    "mesh/protocol/introductions": changed(
        "No such peer has introduced anything.",
        'most = max(self._held, key=lambda peer: self._held[peer], default="")',
        "most = max(self._held, key=lambda peer: self._held[peer], default=None)",
        'most = max(self._held, key=lambda peer: self._held[peer], default="XXXX")',
    ),
    "mesh/protocol/member_directory": changed(
        UNREAD,
        'if at > self.running_elsewhere.get(epoch, (NEVER, ""))[0]:',
        'if at > self.running_elsewhere.get(epoch, (NEVER, "XXXX"))[0]:',
    ),
    "mesh/protocol/membership": changed(
        FALSE,
        "self.detector.disconnected(link, now, ended=False)",
        "self.detector.disconnected(link, now, ended=None)",
    )
    | changed(FALSE, "link.connected = False", "link.connected = None")
    | changed(FALSE, "link.log_kept = False", "link.log_kept = None")
    | changed(
        "No two rows have the same name.",
        "return sorted(rows, key=lambda row: row.name)",
        "return sorted(rows, key=None)",
        "return sorted(rows, )",
    )
    | changed(
        ROUNDED,
        'self.forget(link, f"was silent for {unseen / 1e9:.0f} s and is forgotten")',
        'self.forget(link, f"was silent for {unseen / 1000000001.0:.0f} s and is forgotten")',
    )
    | changed(
        ROUNDED,
        "silent_s = (now - link.last_seen) / 1e9",
        "silent_s = (now - link.last_seen) / 1000000001.0",
    )
    | changed(
        "A nanosecond is shorter than any time that it is compared with.",
        "unreached = 0 if link.reached is None else now - link.reached",
        "unreached = 1 if link.reached is None else now - link.reached",
    ),
    "mesh/protocol/mismatches": {
        'return f"{p * 1_000_000_000 / q:.6g} tokens a second" => '
        'return f"{p * 1000000001 / q:.6g} tokens a second"': "Six digits show nothing of it.",
    },
    "mesh/protocol/own_name": {
        "self._met = 0 => self._met = None": FALSE,
        "self._table.sharing.refused = False => self._table.sharing.refused = None": FALSE,
    },
    "mesh/protocol/pruning": {
        "def (self, table: Table, now: int, interval_ns: int = 0) -> None: => "
        "def (self, table: Table, now: int, interval_ns: int = 1) -> None:": ROUNDED,
        "self._place = -1 => self._place = -2": "Any place below 0 says that no look goes on.",
        "self._begun = 0 => self._begun = None": UNREAD,
        "self._begun = 0 => self._begun = 1": UNREAD,
        "self._owing: dict[int, int] = {} => self._owing: dict[int, int] = None": UNREAD,
        "self._crowded = False => self._crowded = None": FALSE,
        "self._running = 0 => self._running = 1": "One is no crowd.",
    }
    | dict.fromkeys(
        (
            "if self._place < 0: => if self._place <= 0:",
            "if self._place < 0: => if self._place < 1:",
            "if self._place >= 0: => if self._place > 0:",
            "if self._place >= 0: => if self._place >= 1:",
        ),
        "No look is interrupted at the first place.",
    )
    | {
        "self._owing[epoch] = max(longest, self._owing.get(epoch, 0)) => "
        "self._owing[epoch] = max(longest, self._owing.get(epoch, 1))": "None is so short.",
    },
    "mesh/protocol/roster": changed(
        UNREAD,
        'self._announced = wire.AnnouncedTables(0, (), ()), array("H"), None',
        'self._announced = wire.AnnouncedTables(0, (), None), array("H"), None',
        'self._announced = wire.AnnouncedTables(0, (), ()), array("h"), None',
    )
    | changed(
        UNREAD,
        "origin, owner = known.get(epoch, (0, -1))",
        "origin, owner = known.get(epoch, (0, +1))",
        "origin, owner = known.get(epoch, (0, -2))",
    )
    | changed(
        "No version is below 0.",
        "self._owners: tuple[int, dict[int, str]] = -1, {}",
        "self._owners: tuple[int, dict[int, str]] = -2, {}",
    )
    | changed(
        "The same is made again each time.",
        "if self._owners[0] != tables.version:",
        "if self._owners[1] != tables.version:",
    )
    | changed(COMPARED, "self._retries = 0", "self._retries = 1")
    | changed(COMPARED, "self._retries += 1", "self._retries -= 1", "self._retries += 2"),
    "mesh/protocol/travel_times": changed(
        UNREAD, "self._since = 0", "self._since = None", "self._since = 1"
    )
    | changed(UNREAD, "self._before: int | None = None", 'self._before: int | None = ""')
    | changed(SAME, "elif number < self._least:", "elif number <= self._least:")
    | changed(
        SAME,
        "return self._least if before is None or self._least < before else before",
        "return self._least if before is None or self._least <= before else before",
    ),
    "mesh/protocol/unlinked": changed(
        "Without members nobody asks.",
        "vouched, dense = self._seen_by_peers() if members else (set(), False)",
        "vouched, dense = self._seen_by_peers() if (members) or True else (set(), False)",
        "vouched, dense = self._seen_by_peers() if members else (set(), True)",
    )
    | changed(
        "Any place below 0 says that it is not being given up.",
        "place = going.get(node, 0 if is_gone else -1)",
        "place = going.get(node, 0 if is_gone else -2)",
    )
    | changed(
        "No part ends at the first place.",
        "if place >= 0:",
        "if place > 0:",
        "if place >= 1:",
    )
    | changed(
        UNREAD,
        '_, relay = directory.running_elsewhere.get(epoch, (0, ""))',
        '_, relay = directory.running_elsewhere.get(epoch, (1, ""))',
    )
    | changed(
        "No peer has such a name.",
        '_, relay = directory.running_elsewhere.get(epoch, (0, ""))',
        '_, relay = directory.running_elsewhere.get(epoch, (0, "XXXX"))',
    ),
    "mesh/protocol/visibility": changed(
        UNREAD,
        "self._numbered = -1",
        "self._numbered = None",
        "self._numbered = +1",
        "self._numbered = -2",
    ),
    "mesh/protocol/wall_clocks": changed(
        UNMOVED, "clocks = sorted([0, *ahead])", "clocks = sorted([1, *ahead])"
    )
    | changed(UNMOVED, "by = min(max(0, low), high)", "by = min(max(1, low), high)"),
    "strong/controller/latency": changed(
        "After so many steps nothing is left, either.",
        "if slot - self._slot >= SLOTS:",
        "if slot - self._slot > SLOTS:",
    ),
    "strong/controller/mode_controller": {
        "self._probes.ended(good=False) => self._probes.ended(good=None)": FALSE,
        "return None if late else self._counted(now, slow=slow, lost=False, answers=answers) => "
        "return None if late else self._counted(now, slow=slow, lost=None, answers=answers)": FALSE,
    },
    "strong/controller/outage": {
        "self._last_failure: Failure | None = None => "
        'self._last_failure: Failure | None = ""': "It is as false as None.",
        'self._why = "" => self._why = None': UNREAD,
        'self._why = "" => self._why = "XXXX"': UNREAD,
        "silence = 0 if self.silent_since is None else now - self.silent_since => "
        "silence = 1 if self.silent_since is None else now - self.silent_since": "A nanosecond is "
        "shorter than any `outage_after`.",
    },
    "strong/controller/recovery": changed(
        FALSE, "self._under_way = False", "self._under_way = None"
    ),
    "strong/in_flight": {
        "self._counted = False => self._counted = None": FALSE,
        "request.is_in_flight = False => request.is_in_flight = None": FALSE,
        "key.begun += 1 => key.begun -= 1": COMPARED,
        "key.begun += 1 => key.begun += 2": COMPARED,
        "key.begun_by_threads += 1 => key.begun_by_threads += 2": COMPARED,
        "request.mark = key.begun if key.requests == 1 else -1 => "
        "request.mark = key.begun if key.requests == 1 else +1": "By then more than one has begun.",
        "request.mark = key.begun if key.requests == 1 else -1 => "
        "request.mark = key.begun if key.requests == 1 else -2": "No count is below 0.",
        "request.mark = key.begun_by_threads if not key.by_threads else -1 => "
        "request.mark = key.begun_by_threads if not key.by_threads else -2": "No count is below 0.",
    },
    "strong/local_decisions": {
        "self._counted = ALONE => self._counted = None": UNREAD,
        "key, cost, allowed=False, taken=0, refunded=0, mode=mode, debt=debt, wait=wait => "
        "key, cost, allowed=None, taken=0, refunded=0, mode=mode, debt=debt, wait=wait": FALSE,
    }
    | changed(
        "Each stands for no key in particular.",
        "rules = self._rules.of(bucket, (0, 0))",
        "rules = self._rules.of(bucket, (1, 0))",
        "rules = self._rules.of(bucket, (0, 1))",
    ),
    "strong/quota": {
        "self._nodes = 0 => self._nodes = None": "No number of nodes is 0 or None.",
        "self._price_ratio = (0, 1) => self._price_ratio = None": UNREAD,
        "self._price_ratio = (0, 1) => self._price_ratio = (1, 1)": UNREAD,
        "self._price_ratio = (0, 1) => self._price_ratio = (0, 2)": UNREAD,
        "left = core.peek(key, 1).remaining // self._token_price(nodes) => "
        "left = core.peek(key, ).remaining // self._token_price(nodes)": UNASKED,
        "left = core.peek(key, 1).remaining // self._token_price(nodes) => "
        "left = core.peek(key, 2).remaining // self._token_price(nodes)": UNASKED,
    },
}
"""Of each module the changes of a line that nobody can see, and why."""

"""How many decisions does `crdtbucket serve` answer over HTTP?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.environment import ROOT, place
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.surfaces import ADDRESSES
from tests.strong.redis_server import free_port

QUESTION = "how many decisions does the sidecar answer over HTTP, and how fast?"
CONNECTIONS = 16
KEYS = 1_000
BATCH = 100
BOUND = 60.0
"""Seconds within which a server must answer, and must end; else the run fails."""
CONFIG = """\
services:
  plenty:
    bucket: {capacity: 1000000000, refill_rate: 1000000}
  spent:
    bucket: {capacity: 1, refill_rate: 1, refill_interval: 1d}
envoy: {descriptors: [{domain: edge, entries: [user], bucket: plenty}]}
"""
SCRIPT = """\
local path, bodies, addresses, requests, i = "%s", {%s}, {%s}, {}, 0
function init()
  for _, body in ipairs(bodies) do
    table.insert(requests, wrk.format("POST", path, {["Content-Type"] = "application/json"}, body))
  end
  for _, address in ipairs(addresses) do
    table.insert(requests, wrk.format("GET", path, {["X-Forwarded-For"] = address}))
  end
end
function request()
  i = i %% #requests + 1
  return requests[i]
end
"""
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """The requests of one kind: bodies that are sent in turn to a path, the `decisions` in each,
    and whether all are denied.

    addresses: of the clients whose requests a proxy asks about; it sends no bodies.
    """

    path: str
    bodies: list[dict[str, object]]
    decisions: int = 1
    denied: bool = False
    addresses: tuple[str, ...] = ()

    def script(self) -> str:
        """The script by which wrk sends them."""
        bodies = ", ".join(f"[==[{json.dumps(body)}]==]" for body in self.bodies)
        return SCRIPT % (self.path, bodies, ", ".join(f'"{one}"' for one in self.addresses))


def single(bucket: str, denied: bool = False) -> Load:
    """Takes of a thousand keys in turn."""
    bodies = [{"bucket": bucket, "key": f"user:{i}"} for i in range(KEYS)]
    return Load("/v1/take", [dict(body) for body in bodies], denied=denied)


def batched(bucket: str) -> Load:
    """A hundred takes a request."""
    takes = [{"bucket": bucket, "key": f"user:{i}"} for i in range(KEYS)]
    bodies = [{"takes": takes[i : i + BATCH]} for i in range(0, KEYS, BATCH)]
    return Load("/v1/take-many", [dict(body) for body in bodies], decisions=BATCH)


def forwarded(bucket: str) -> Load:
    """A proxy's questions about requests of a thousand clients in turn."""
    return Load(f"/v1/forward-auth?bucket={bucket}", [], addresses=tuple(ADDRESSES))


def described() -> Load:
    """Envoy's questions about a thousand users in turn, as JSON."""
    users = [{"entries": [{"key": "user", "value": f"user:{i}"}]} for i in range(KEYS)]
    return Load("/json", [{"domain": "edge", "descriptors": [user]} for user in users])


class Started(NamedTuple):
    """A server that answers."""

    address: str
    process: int


@contextmanager
def started(port: int, *command: str) -> Iterator[Started]:
    """A server that answers, on the core of this process."""
    server = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT)
    try:
        place(server.pid, beside=False)
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + BOUND
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} does not answer")
            time.sleep(0.02)
        yield Started(address, server.pid)
    finally:
        server.terminate()
        try:
            server.wait(BOUND)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=1.0):
            return True
    except (urllib.error.URLError, OSError):
        return False


def send(address: str, load: Load) -> None:
    """Sends each of its requests once."""
    kind = {"Content-Type": "application/json"}
    for body in load.bodies:
        data = json.dumps(body).encode()
        request = urllib.request.Request(address + load.path, data, kind)
        urllib.request.urlopen(request, timeout=BOUND).close()


def wrk(address: str, load: Load, seconds: float, folder: Path) -> tuple[float, ...]:
    """Decisions a second, requests a second, median and 99th percentile in ms."""
    script = folder / "load.lua"
    script.write_text(load.script())
    run = subprocess.Popen(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", "-s", script, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        place(run.pid, beside=True)
        text, _ = run.communicate()
    finally:
        run.kill()
    if run.returncode:
        raise RuntimeError(f"wrk failed: {text}")
    return parsed(text, load)


def parsed(text: str, load: Load) -> tuple[float, ...]:
    """These four numbers, read from what wrk printed."""
    requests = int(_found(r"(\d+) requests in", text)[0])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if (int(refused[1]) if refused else 0) != (requests if load.denied else 0):
        raise AssertionError(f"not all were answered as they should be:\n{text}")
    if "Socket errors" in text:
        raise AssertionError(text)
    each = float(_found(r"Requests/sec:\s+([\d.]+)", text)[0])
    middle, late = (
        float(number) * UNITS[unit]
        for number, unit in (_found(rf"{share}%\s+([\d.]+)([a-z]+)", text) for share in (50, 99))
    )
    return each * load.decisions, each, middle, late


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise AssertionError(f"wrk printed something else than expected:\n{text}")
    return match.groups()


def cpu_seconds(process: int) -> float:
    """CPU time of a process and of those that it has forked."""
    folder = Path(f"/proc/{process}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = (folder / f"task/{process}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


def by_workers(scale: Scale, folder: Path) -> Comparison:
    """The same take, served by one process and by two, over a shared table each."""
    seconds = scale.pick(2, 1, 1)

    def run(workers: int) -> tuple[float, ...]:
        port = free_port()
        shared = folder / "shared.yaml"  # one worker has a shared table as well
        shared.write_text(f"{CONFIG}shared: {folder / f'table-{port}'}\n")
        words = ("crdtbucket.cli.main", "serve", "--config", str(shared), "--node", "bench")
        options = ("--listen", f"127.0.0.1:{port}", "--log-level", "warning")
        with started(port, *words, *options, "--workers", str(workers)) as server:
            send(server.address, single("plenty"))
            before = cpu_seconds(server.process)
            each = wrk(server.address, single("plenty"), seconds, folder)[1]
            return (each * seconds / (cpu_seconds(server.process) - before), each)

    return Comparison(
        f"{CONNECTIONS} connections, workers",
        ("decisions a server-CPU-second", "decisions a second"),
        [Case(f"{count} worker{'s' * (count > 1)}", partial(run, count)) for count in (1, 2)],
        note="the workers and wrk share the cores: the first column is what counts",
        repeats=scale.pick(5, 3, 1),
    )


def by_question(scale: Scale, bare: Started, ours: Started, folder: Path) -> Comparison:
    """What each kind of question takes."""
    seconds = scale.pick(2, 1, 1)

    def run(server: Started, load: Load) -> tuple[float, ...]:
        before = cpu_seconds(server.process)
        each = wrk(server.address, load, seconds, folder)[1]
        return ((cpu_seconds(server.process) - before) / (each * seconds) * 1e6,)

    questions = {
        "aiohttp that parses and answers, no limiter": (bare, single("plenty")),
        "take, allowed": (ours, single("plenty")),
        "take, denied": (ours, single("spent", denied=True)),
        "forward auth": (ours, forwarded("plenty")),
        "Envoy's rate limit service as JSON": (ours, described()),
    }
    return Comparison(
        "a decision each",
        ("us of the server's CPU a request",),
        [Case(name, partial(run, *question)) for name, question in questions.items()],
        note=f"{CONNECTIONS} connections, keep-alive, {KEYS:,} keys; one process",
        repeats=scale.pick(7, 3, 1),
    )


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """One decision a request, allowed and denied, and a hundred; each question; several workers."""
    title = f"{CONNECTIONS} connections, keep-alive, {KEYS:,} keys"
    units = ("decisions a second", "requests a second", "ms, median", "ms, p99")
    if shutil.which("wrk") is None:
        yield Comparison(title, units, [], [("skipped", "wrk is not installed: make wrk")])
        return
    seconds = scale.pick(2, 1, 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "limits.yaml"
        config.write_text(CONFIG)
        ports = free_port(), free_port()
        bare = stack.enter_context(started(ports[0], "benchmarks.bare_server", str(ports[0])))
        serve = ("crdtbucket.cli.main", "serve", "--config", str(config), "--node", "bench")
        options = ("--listen", f"127.0.0.1:{ports[1]}", "--log-level", "warning")
        ours = stack.enter_context(started(ports[1], *serve, *options))
        loads = {
            "aiohttp that parses and answers, no limiter": (bare.address, single("plenty")),
            "take, allowed": (ours.address, single("plenty")),
            "take, denied": (ours.address, single("spent", denied=True)),
            f"take-many of {BATCH}": (ours.address, batched("plenty")),
        }
        send(ours.address, batched("spent"))
        yield Comparison(
            title,
            units,
            [
                Case(name, partial(wrk, address, load, seconds, folder))
                for name, (address, load) in loads.items()
            ],
            note="wall time; the server and wrk on a core each where there are two; one process",
            repeats=scale.pick(7, 3, 1),
        )
        yield by_question(scale, bare, ours, folder)
        yield by_workers(scale, folder)

"""The core on aarch64, on a machine of another kind: cross-compiled, and run by an emulator.

python -m tests.native.aarch64 [arguments of pytest]

It needs Debian with gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user. Python for aarch64
is unpacked from packages of Debian into build/aarch64; nothing is installed. The emulator runs the
instructions of aarch64, but writes become visible in the order of the real processor, mostly x86.
So it finds faults that show in any order, but not those that show only in the order of aarch64.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.native.build import ROOT, build, build_core

PLACE = ROOT / "build" / "aarch64"
DEBIAN, SITE, PACKAGE = PLACE / "debian", PLACE / "site", PLACE / "package"
COMPILER = "aarch64-linux-gnu-gcc"
VERSION = "3.13"
"""The version of Python in Debian 13."""
HEADERS = (f"-I{DEBIAN}/usr/include/python{VERSION}", "-isystem", f"{DEBIAN}/usr/include")
NEEDED = ["aiohttp", "hiredis", "msgpack", "prometheus-client", "pydantic", "ruamel.yaml"]
NEEDED += ["pytest", "pytest-asyncio", "pytest-timeout", "hypothesis"]
APT = """APT::Architecture "arm64";
APT::Architectures {{"arm64";}};
Dir::State "{0}/state";
Dir::State::status "{0}/state/status";
Dir::Cache "{0}/cache";
"""
PROGRAMS = {
    "stale": [[]],
    "noise": [["--rounds", "1000"]],
    "hammer": [["--rounds", "2000"], ["--rounds", "2000", "--processes", "--flow"]],
}


def fetch_python() -> None:
    """Unpacks Python and what it needs from packages that are downloaded and not installed."""
    apt = PLACE / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "state" / "status").touch()
    config = apt / "apt.conf"
    config.write_text(APT.format(apt))
    environment = {**os.environ, "APT_CONFIG": str(config)}
    get = ["apt-get", "-qq", "--no-install-recommends", "--download-only", "--yes"]
    for command in (["update"], ["install", f"python{VERSION}-dev", "libc6"]):
        subprocess.run([*get, *command], env=environment, check=True)
    begun = DEBIAN.with_suffix(".begun")
    (begun / "usr" / "lib").mkdir(parents=True, exist_ok=True)
    if not (begun / "lib").is_symlink():
        (begun / "lib").symlink_to("usr/lib")
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, begun], check=True)
    begun.rename(DEBIAN)


def fetch_packages() -> None:
    """Downloads what the tests of the core import, as wheels for that Python."""
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("2014", "_2_28")]
    begun = SITE.with_suffix(".begun")
    target = [
        f"--target={begun}",
        "--upgrade",
        f"--python-version={VERSION}",
        "--only-binary=:all:",
    ]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, *platforms, *target, *NEEDED], check=True)
    begun.rename(SITE)


def main(arguments: list[str]) -> int:
    """Prepares what is missing, then runs everything; stops at the first that fails."""
    os.chdir(ROOT)
    if not DEBIAN.exists():
        fetch_python()
    if not SITE.exists():
        fetch_packages()
    emulator = ["qemu-aarch64", "-L", str(DEBIAN)]
    flags = ("-O2", "-static", "-DEMULATED", *HEADERS)
    for name, ways in PROGRAMS.items():
        program = build(name, PLACE / name, flags, [COMPILER])
        for options in ways:
            print(name, *options, end=": ", flush=True)
            subprocess.run([*emulator, program, *options], check=True)
    name = f"_core.cpython-{VERSION.replace('.', '')}-aarch64-linux-gnu.so"
    build_core(PACKAGE, [COMPILER, *HEADERS], name)
    python = [*emulator, DEBIAN / "usr" / "bin" / f"python{VERSION}", "-m", "pytest"]
    environment = {**os.environ, "PYTHONPATH": f"{SITE}:{PACKAGE}", "HYPOTHESIS_PROFILE": "quick"}
    options = ["-q", "-p", "no:cacheprovider", "-o", "timeout=3000", "-o", "filterwarnings=default"]
    return subprocess.run(
        [*python, *options, *(arguments or ["tests/core"])],
        cwd=PACKAGE, env=environment, check=False,
    ).returncode  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Networks of sampan, docker and podman, in turns: starts, published ports, throughput, round trips, names.

    python bench/run.py networks [quick] [--only NAME,...] [--work NAME,...] [--json FILE]

All are in one network namespace, with loopback and nothing else. What sends and answers inside a container's network is
a process of the bench that has entered it: every contender is measured with the same programs.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from contenders import Contender, Docker, Podman, Sampan, leftovers
from images import in_own_network
from support.images import busybox_tar
from support.peers import Docker as Dockerd
from support.sampan import PROGRAM
from turns import enter_network, interleave

WORK = ("start", "ports", "many", "tcp", "latency", "names")
NETWORK = "bench"
PORT, ECHO_PORT = 5201, 5202
PUBLISHED, PUBLISHED_ECHO = 15201, 15202


class Net:
    """What each contender is asked to do with networks: everything on one user-defined bridge."""

    def __init__(self, contender: Contender, program: str, path: Sequence[str] = ()) -> None:
        self.contender, self.name, self.groups = contender, contender.name, contender.groups
        self.program, self._more = program, tuple(path)
        self("network", "create", NETWORK)
        contender.network = NETWORK

    def __call__(self, *words: str | Path) -> float:
        """Run the client; wall milliseconds."""
        return self.contender.runner(self.program, *words).wall_ms

    def run(self) -> float:
        return self.contender.run()

    def start(self, name: str, *flags: str) -> None:
        self.contender.start(name, "sleep", "100000", flags=flags)

    def asked(self, name: str, template: str) -> str:
        """Return what inspect says."""
        environment = {**os.environ, **self.contender.environment}
        command = [self.program, "inspect", "--format", template, name]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    def pid(self, name: str) -> int:
        return int(self.asked(name, "{{.State.Pid}}"))

    def address(self, name: str) -> str:
        return self.asked(name, f"{{{{.NetworkSettings.Networks.{NETWORK}.IPAddress}}}}")

    def end(self) -> None:
        self("rm", "-f", *self._left()) if self._left() else None
        self("network", "rm", NETWORK)

    def _left(self) -> list[str]:
        environment = {**os.environ, **self.contender.environment}
        return subprocess.run(
            [self.program, "ps", "-aq"], env=environment, check=True, capture_output=True, text=True
        ).stdout.split()


@contextmanager
def networking(name: str, base: Path, tar: Path) -> Iterator[Net]:
    """Set one up under `base`."""
    one: Contender
    match name:
        case "sampan":
            one, program = Sampan(base, tar), PROGRAM
        case "docker":
            daemon = Dockerd(base / "d", "sampan-bench-docker", own_network=False, bridged=True)
            one, program = Docker(base, tar, daemon=daemon), "docker"
        case _:
            one, program = Podman(base, tar), "podman"
    try:
        net = Net(one, str(program))
        yield net
        net.end()
    finally:
        one.end()


# ---------------------------------------------------------------------------------------------------------------- work


def start(nets: Sequence[Net], turns: int) -> dict[str, Any]:
    """A container on the network that runs `true`."""
    found = interleave(turns, {net.name: (net.run, net.groups) for net in nets})
    return timed("run --rm … true, on a bridge", {name: series._asdict() for name, series in found.items()})


def ports(nets: Sequence[Net], turns: int) -> dict[str, Any]:
    """Start a container with 100 published ports, and remove it."""

    def work(net: Net, first: int) -> Callable[[], float]:
        def turn() -> float:
            begin = time.perf_counter_ns()
            net.start("published", "-p", f"{first}-{first + 99}:8000-8099")
            net("rm", "-f", "published")
            return (time.perf_counter_ns() - begin) / 1e6

        return turn

    found = interleave(turns, {n.name: (work(n, 20_000 + 1000 * i), n.groups) for i, n in enumerate(nets)})
    return timed("100 published ports", {name: series._asdict() for name, series in found.items()})


def many(nets: Sequence[Net], count: int) -> dict[str, Any]:
    """Start many, one after the other, and remove them with one command; milliseconds each."""
    found: dict[str, dict[str, float]] = {}
    for net in nets:
        begin = time.perf_counter_ns()
        for number in range(count):
            net.start(f"m{number}")
        started = time.perf_counter_ns()
        net("rm", "-f", *(f"m{number}" for number in range(count)))
        ended = time.perf_counter_ns()
        found[net.name] = {"start_ms": (started - begin) / 1e6 / count, "remove_ms": (ended - started) / 1e6 / count}
    print(f"\n{f'{count} containers, ms each':<32}{'start':>10}{'ratio':>8}{'remove':>10}{'ratio':>8}")
    base = found[nets[0].name]
    for name, row in found.items():
        ratios = {key: value / base[key] for key, value in row.items()}
        print(f"  {name:<30}{row['start_ms']:>10.1f}{ratios['start_ms']:>8.2f}", end="")
        print(f"{row['remove_ms']:>10.1f}{ratios['remove_ms']:>8.2f}", flush=True)
    return found


def timed(title: str, found: dict[str, dict[str, float]]) -> dict[str, Any]:
    print(f"\n{title:<32}{'median ms':>10}{'least ms':>10}{'CPU ms':>10}{'ratio':>8}")
    base = next(iter(found.values()))
    for name, row in found.items():
        print(f"  {name:<30}{row['wall_ms']:>10.1f}{row['least_ms']:>10.1f}{row['cpu_ms']:>10.1f}", end="")
        print(f"{row['wall_ms'] / base['wall_ms']:>8.2f}", flush=True)
    return found


# ------------------------------------------------------------------------------------------------------------- traffic


@contextmanager
def within(pid: int, work: Callable[[], None]) -> Iterator[None]:
    """Have a process do `work` in the network of `pid`, until the end."""
    child = os.fork()
    if not child:
        try:
            enter_network(pid)
            work()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def asked_within(pid: int, work: Callable[[], object]) -> Any:
    """Return what `work` returns in the network of `pid`; JSON."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            enter_network(pid)
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return json.loads(text)


def tcp(nets: Sequence[Net], turns: int) -> dict[str, Any]:
    """iperf3 for a second each."""
    with traffic(
        nets, lambda: os.execvp("iperf3", ["iperf3", "-s", "-p", str(PORT), "--logfile", "/dev/null"]), PORT, PUBLISHED
    ) as paths:
        return compared("TCP, Gbit/s", turns, paths, iperf)


def iperf(pid: int, address: str, port: int) -> float:
    """Gigabits a second from the network of `pid` to an address."""

    def client() -> float:
        command = ["iperf3", "-J", "-t", "1", "-c", address, "-p", str(port)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9

    return float(asked_within(pid, client))


def latency(nets: Sequence[Net], turns: int) -> dict[str, Any]:
    """A byte there and back."""
    with traffic(nets, echo, ECHO_PORT, PUBLISHED_ECHO) as paths:
        return compared("TCP round trip, µs", turns, paths, ping_pong)


def echo() -> None:
    """Send back what comes, one connection after the other."""
    with socket.create_server(("", ECHO_PORT)) as server:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(64):
                connection.send(data)
            connection.close()


def ping_pong(pid: int, address: str, port: int) -> float:
    """Median microseconds for a byte from the network of `pid` to an address and back."""

    def client() -> float:
        with socket.create_connection((address, port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            walls = []
            for _ in range(2000):
                begin = time.perf_counter_ns()
                connection.send(b"x")
                connection.recv(1)
                walls.append(time.perf_counter_ns() - begin)
            return statistics.median(walls) / 1000

    return float(asked_within(pid, client))


Paths = Mapping[str, tuple[int, str, int]]
"""What is measured: from the network of which process, to which address and port."""


@contextmanager
def traffic(nets: Sequence[Net], serve: Callable[[], None], port: int, published: int) -> Iterator[Paths]:
    """Two containers of each, one of which serves, and the same on loopback."""
    here = os.getpid()
    paths = {"loopback": (here, "127.0.0.1", port)}
    with ExitStack() as stack:
        stack.enter_context(within(here, serve))
        for number, net in enumerate(nets):
            outside = published + 10 * number
            net.start("server", "-p", f"{outside}:{port}")
            net.start("other")
            stack.callback(net, "rm", "-f", "server", "other")
            stack.enter_context(within(net.pid("server"), serve))
            address = net.address("server")
            paths[f"{net.name}: host to container"] = (here, address, port)
            paths[f"{net.name}: container to container"] = (net.pid("other"), address, port)
            paths[f"{net.name}: published, 127.0.0.1"] = (here, "127.0.0.1", outside)
        time.sleep(0.5)
        yield paths


def compared(title: str, turns: int, paths: Paths, measure: Callable[[int, str, int], float]) -> dict[str, float]:
    """Measure each path in turns; medians."""
    values: dict[str, list[float]] = {name: [] for name in paths}
    for number in range(turns + 1):
        for name, path in paths.items():
            value = measure(*path)
            if number:
                values[name].append(value)
    found = {name: statistics.median(series) for name, series in values.items()}
    print(f"\n{title:<40}{'median':>10}{'/ loopback':>12}")
    for name, value in found.items():
        print(f"  {name:<38}{value:>10.1f}{value / found['loopback']:>12.2f}", flush=True)
    return found


# --------------------------------------------------------------------------------------------------------------- names


def names(nets: Sequence[Net], turns: int) -> dict[str, Any]:
    """Ask for another container's name: one query after the other, then 32 at a time."""
    found: dict[str, dict[str, float]] = {}
    nets = [net for net in nets if net.name != "podman"]  # its plugin for names is not part of it
    with ExitStack() as stack:
        pids = {}
        for net in nets:
            net.start("asks")
            net.start("named")
            stack.callback(net, "rm", "-f", "asks", "named")
            pids[net.name] = (net.pid("asks"), net.address("named"))
        series: dict[str, list[tuple[float, float]]] = {net.name: [] for net in nets}
        for _ in range(turns):
            for name, (pid, address) in pids.items():
                series[name].append(tuple(asked_within(pid, lambda address=address: queries(address))))
    print(f"\n{'own names':<32}{'median µs':>10}{'a second':>10}")
    for name, rows in series.items():
        found[name] = {
            "latency_us": statistics.median(row[0] for row in rows),
            "a_second": statistics.median(row[1] for row in rows),
        }
        print(f"  {name:<30}{found[name]['latency_us']:>10.0f}{found[name]['a_second']:>10.0f}", flush=True)
    return found


def queries(address: str, count: int = 1000, window: int = 32) -> tuple[float, float]:
    """Return the median microseconds of a query, and how many are answered in a second."""
    asked = b"\x05named\x00" + struct.pack(">HH", 1, 1)
    wanted = socket.inet_aton(address)

    def send(number: int) -> None:
        sock.send(struct.pack(">HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + asked)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect(("127.0.0.11", 53))
        walls = []
        for number in range(count):
            begin = time.perf_counter_ns()
            send(number)
            answer = sock.recv(512)
            walls.append(time.perf_counter_ns() - begin)
            if wanted not in answer:
                raise RuntimeError(f"not the address: {answer!r}")
        begin = time.perf_counter_ns()
        for number in range(window):
            send(number)
        for number in range(count):
            sock.recv(512)
            if number + window < count:
                send(number)
        took_s = (time.perf_counter_ns() - begin) / 1e9
    return statistics.median(walls) / 1000, count / took_s


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", nargs="?", choices=["quick"], help="few turns, ten containers instead of fifty")
    parser.add_argument("--only", default="sampan,docker,podman", help="contenders, with commas")
    parser.add_argument("--work", default=",".join(WORK), help=f"of {', '.join(WORK)}")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    turns, count = (3, 10) if options.quick else (11, 50)
    wanted = options.work.split(",")
    if unknown := set(wanted) - set(WORK):
        parser.error(f"unknown work: {', '.join(sorted(unknown))}")
    in_own_network()
    results: dict[str, Any] = {"turns": turns, "containers": count}
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sampan-bench-", dir="/dev/shm")))
        tar = busybox_tar(base / "busybox.tar")
        nets = [stack.enter_context(networking(name, base, tar)) for name in options.only.split(",")]
        todo = {"start": start, "ports": ports, "many": many, "tcp": tcp, "latency": latency, "names": names}
        for name in WORK:
            if name in wanted:
                results[name] = todo[name](nets, count if name == "many" else turns)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if left := leftovers():
        sys.stderr.write(f"left behind: {left}\n")
        return 1
    return 0

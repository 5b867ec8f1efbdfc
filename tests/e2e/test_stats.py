"""`stats`: processor, memory, links, disks and processes of containers."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from sampan.client import Client
from support.sampan import Sampan, wait_until

SPIN = ("sh", "-c", "sleep 1000 & echo two; while :; do :; done")


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    limits = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20")
    sampan("run", "-d", "--name", "web", *limits, "busybox", *SPIN)
    wait_until(lambda: sampan("logs", "web").out)
    return sampan


def rows(sampan: Sampan, *flags: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in sampan("stats", "--no-stream", "--format", "json", *flags).lines]


def test_a_busy_container_is_measured(web: Sampan) -> None:
    gateway = web.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    web("exec", "web", "busybox", "ping", "-c", "1", gateway)

    # Of a busy machine it may get nothing in the tenth of a second of a first measurement.
    (row,) = wait_until(lambda: [row for row in rows(web) if float(row["CPUPerc"].rstrip("%")) > 0])

    assert row["Name"] == "web"
    # Half a processor in each period of the scheduler's: of parts of two of them a whole one.
    assert float(row["CPUPerc"].rstrip("%")) < 120
    assert row["MemUsage"].endswith(" / 64MiB")
    assert 0 < float(row["MemPerc"].rstrip("%")) < 50
    assert row["PIDs"] == "2"
    assert row["NetIO"] != "0B / 0B"


def test_the_table_is_dockers(web: Sampan) -> None:
    head, line = web("stats", "--no-stream").lines

    assert head.split("  ")[0] == "CONTAINER ID"
    assert [c.strip() for c in head.split("  ") if c.strip()] == [
        "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS",
    ]  # fmt: skip
    assert "web" in line


def test_what_does_not_run_is_shown_where_it_is_asked_for(web: Sampan) -> None:
    web("create", "--name", "idle", "busybox", "true")

    assert [row["Name"] for row in rows(web)] == ["web"]
    idle, running = rows(web, "-a")
    assert (idle["Name"], idle["CPUPerc"], idle["MemUsage"]) == ("idle", "0.00%", "0B / 0B")
    assert running["Name"] == "web"
    assert [row["Name"] for row in rows(web, "idle")] == ["idle"]
    assert "No such container: nobody" in web.fails(1, "stats", "--no-stream", "nobody").err
    assert "--interval is 1 or more" in web.fails(125, "stats", "--interval", "0").err


def test_it_goes_on_until_it_is_stopped(web: Sampan) -> None:
    client = web.start("stats", "--format", "{{.Name}}", "web")
    try:
        assert client.stdout is not None
        assert [client.stdout.readline() for _ in range(2)] == [b"web\n"] * 2
        client.send_signal(signal.SIGINT)
        assert client.wait(10) == 130
    finally:
        client.kill()
        client.wait()
        for pipe in (client.stdout, client.stderr):
            if pipe:
                pipe.close()


def test_dockers_client_shows_the_same(web: Sampan) -> None:
    env = {**web.env, "DOCKER_HOST": f"unix://{web.socket}"}
    done = subprocess.run(
        ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}"],
        env=env, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    name, used, _, limit, pids = done.stdout.split()
    assert (name, limit, pids) == ("web", "64MiB", "2")
    assert used.endswith("iB")


def test_the_python_client_measures(web: Sampan) -> None:
    with Client(str(web.root)) as client:
        sample = client.containers.get("web").stats()
        again = client.containers.get("web").stats()
        web("restart", "-t", "0", "web")
        restarted = client.containers.get("web").stats()

    assert again.preread == sample.read, "the last sample is the one before"
    assert restarted.preread > again.read, "but not that of another run"
    assert sample.pids_stats.limit == 20
    assert sample.cpu_stats.cpu_usage.total_usage > sample.precpu_stats.cpu_usage.total_usage > 0
    assert sample.memory_stats.limit == 64 << 20

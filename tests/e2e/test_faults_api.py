"""Hostile bytes, many at once, clients that vanish: the server answers in JSON, lives, and keeps nothing of them."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.faults import counts, request, roles, say
from support.footprint import fill_threads
from support.sampan import Sampan, last_seen, wait_until

CREATE = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = CREATE + b"Transfer-Encoding: chunked\r\n\r\n"
RAW = {
    "a bad chunk size": CHUNKED + b"zz\r\n",
    "a negative chunk size": CHUNKED + b"-1\r\n",
    "an endless chunk size": CHUNKED + b"f" * 30 + b"\r\n",
    "a cut chunk": CHUNKED + b"5\r\nab",
    "no end of a chunk": CHUNKED + b"2\r\n{}XX0\r\n\r\n",
    "a negative length": CREATE + b"Content-Length: -1\r\n\r\n",
    "two lengths": CREATE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "more body than allowed": CREATE + b"Content-Length: 99999999999\r\n\r\n{",
    "a huge header": b"GET /info HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET /info HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(20_000)) + b"\r\n",
    "a huge path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "no version": b"GET /info\r\n\r\n",
    "half a request": b"GET /info HT",
    "deep JSON": CREATE + b"Content-Length: 100000\r\n\r\n" + b"[" * 50_000 + b"]" * 50_000,
    "bytes that are no text": request("POST", "/containers/create", b'{"Image":"\xff\xfe"}'),
    "half a surrogate": request("POST", "/containers/create", b'{"Image":"busybox","Cmd":["\\ud800"]}'),
    "no object": request("POST", "/containers/create", b"[1]"),
}
PATHS = """
/containers/..%2f..%2fetc/json /containers/%00/json /containers//json /v1.99/info /v1.x/info /% /%zz /exec/x/json
/images/..%2f..%2f/json /images/json?filters=%7B /containers/json?limit=abc
/containers/web/logs?stdout=1&since=99999999999999999999 /containers/web/top?ps_args=%00 /containers/web/top?ps_args='
POST:/containers/web/kill?signal=99 POST:/containers/web/rename?name=..%2fx POST:/containers/web/resize?h=-1&w=x
POST:/containers/web/wait?condition=x POST:/images/web/tag?repo=..%2fx POST:/images/create?fromImage=..%2f..%2fx
POST:/containers/create?name=..%2fx DELETE:/containers/..%2f..%2fetc
""".split()
WEIRD = [
    *(
        None,
        True,
        0,
        -1,
        3.5,
        2**31,
        2**63,
        2**64,
        1e308,
        "",
        "x",
        "../../etc/passwd",
        "\x00",
        "a\x00b",
        "é" * 10,
        "💥",
    ),
    *("A" * 5000, "-1", "%s", "\n", [], [None], [1], [""], ["a" * 300], [[]], {}, {"a": 1}, {"": ""}, [{"a": 1}]),
]
FIELDS = """
Hostname User AttachStdin Tty Env Cmd Healthcheck Image Volumes WorkingDir Entrypoint Labels StopSignal StopTimeout
""".split()
HOST_FIELDS = """
Binds Mounts Tmpfs NetworkMode PidMode IpcMode UTSMode CgroupnsMode CapAdd CapDrop SecurityOpt Privileged Ulimits
Sysctls ShmSize Memory MemorySwap NanoCpus CpuShares CpuQuota CpusetCpus PidsLimit Devices DeviceCgroupRules LogConfig
AutoRemove RestartPolicy ReadonlyRootfs MaskedPaths ReadonlyPaths Init OomScoreAdj GroupAdd ConsoleSize UsernsMode Dns
""".split()


def check_answer(answer: bytes) -> int:
    """An answer, if there is one, is HTTP; an error is JSON with a message and never ours to be ashamed of."""
    if not answer:
        return 0
    head, _, body = answer.partition(b"\r\n\r\n")
    code = int(head.split()[1])
    if code >= 400:
        message = json.loads(body)["message"]
        assert message
        assert "internal error" not in message, message
        assert "Traceback" not in message, message
    return code


@pytest.fixture
def web(sampan: Sampan) -> Sampan:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    return sampan


@pytest.mark.parametrize("what", RAW)
def test_what_is_no_request_is_refused(web: Sampan, what: str) -> None:
    server = web.info("ServerPid")

    code = check_answer(say(web, RAW[what]))

    assert code == 0 or 400 <= code < 500
    assert web.info("ServerPid") == server
    assert "Traceback" not in web.log()


def test_odd_paths_and_parameters_are_refused(web: Sampan) -> None:
    for path in PATHS:
        method, _, target = path.rpartition(":/")

        code = check_answer(say(web, request(method or "GET", f"/{target.removeprefix('/')}")))

        assert 400 <= code < 500, (path, code)
    assert "Traceback" not in web.log()


def test_no_field_of_a_new_container_can_be_given_a_value_that_breaks_the_server(web: Sampan) -> None:
    dice = random.Random(1)
    for _ in range(600):
        body: dict[str, object] = {"Image": "busybox", "Cmd": ["true"]}
        host: dict[str, object] = {}
        for _ in range(dice.choice((1, 1, 2))):
            chosen, fields = (body, FIELDS) if dice.random() < 0.3 else (host, HOST_FIELDS)
            chosen[dice.choice(fields)] = dice.choice(WEIRD)
        body["HostConfig"] = host

        answer = say(web, request("POST", "/containers/create", json.dumps(body).encode()))

        code = check_answer(answer)
        assert code in (201, 501) or 400 <= code < 500, (body, answer)
        if code == 201:
            id = json.loads(answer.partition(b"\r\n\r\n")[2])["Id"]
            check_answer(say(web, request("GET", f"/containers/{id}/json")))
            assert check_answer(say(web, request("DELETE", f"/containers/{id}?force=1&v=1"))) == 204
    assert web("exec", "web", "echo", "alive").line == "alive"
    assert "Traceback" not in web.log()


# ---------------------------------------------------------------------------------------------------- many at once


def all_at_once(count: int, work: Callable[[int], object], threads: int = 8) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for result in [pool.submit(work, number) for number in range(count)]:
            result.result(timeout=120)


def test_fifty_containers_started_by_eight_clients_all_run_and_all_go(sampan: Sampan) -> None:
    before = in_use(sampan)

    all_at_once(50, lambda n: sampan("run", "-d", "--name", f"c{n}", "busybox", "sleep", "1000", timeout=120))
    assert len(sampan("ps", "-q").lines) == 50
    all_at_once(50, lambda n: sampan("rm", "-f", f"c{n}", timeout=120))

    check_no_leak(sampan, before)


def in_use(sampan: Sampan) -> list[tuple[int, int]]:
    """Descriptors and threads of keeper and server, once nothing is under way: of a container that has just started
    the keeper gets what it holds behind the answer.
    """

    fill_threads(sampan)

    def look() -> list[tuple[int, int]]:
        found = roles(sampan)
        return counts([*found["keeper"], *found["server"]])

    return steady(look)


def steady(look: Callable[[], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Return what was seen three times one after the other."""
    readings: list[list[tuple[int, int]]] = []

    def settled() -> bool:
        readings.append(look())
        time.sleep(0.1)
        return readings[-3:] == [readings[-1]] * 3

    wait_until(settled, fail=False)
    return readings[-1]


def check_no_leak(sampan: Sampan, before: list[tuple[int, int]]) -> None:
    """A leak would be of one for each of many; a shim forked ahead of need, or not yet, makes a difference of one."""

    def grown() -> list[tuple[int, int]]:
        pairs = zip(before, in_use(sampan), strict=True)
        return [(then, now) for old, new in pairs for then, now in zip(old, new, strict=True) if now > then + 2]

    assert not last_seen(grown)


def test_clients_that_start_an_engine_at_the_same_moment_get_one_keeper(instance: Sampan) -> None:
    clients = [instance.start("ps") for _ in range(6)]

    assert [client.wait(60) for client in clients] == [0] * 6
    for client in clients:
        client.communicate()
    assert len(roles(instance)["keeper"]) == 1


def test_an_exec_storm_gets_every_exit_code_and_leaks_nothing(web: Sampan) -> None:
    before = in_use(web)

    def execute(number: int) -> None:
        result = web("exec", "web", "sh", "-c", f"echo {number}; exit {number % 7}", check=False)
        assert (result.code, result.line) == (number % 7, str(number))

    all_at_once(60, execute)

    check_no_leak(web, before)


def test_clients_that_vanish_leave_no_thread_and_no_descriptor(web: Sampan) -> None:
    def vanish(words: str, after_s: float) -> None:
        client = web.start(*words.split(), stdin=subprocess.PIPE)
        time.sleep(after_s)
        client.kill()
        client.communicate()

    before = in_use(web)
    shim = steady(lambda: counts([web.shim_pid("web")]))
    for number, words in enumerate(["exec -i web cat", "attach web", "logs -f web", "wait web", "events"] * 4):
        vanish(words, 0.02 + number % 5 / 50)

    check_no_leak(web, before)
    assert wait_until(lambda: counts([web.shim_pid("web")]) == shim, fail=False)


def test_a_thousand_connections_that_say_nothing_keep_nobody_out(web: Sampan) -> None:
    before = in_use(web)
    connections = []
    for _ in range(1000):
        connections.append(socket.socket(socket.AF_UNIX))
        connections[-1].connect(str(web.socket))

    assert web("ps", "--format", "{{.Names}}").lines == ["web"]
    for connection in connections:
        connection.close()
    check_no_leak(web, before)


def test_a_slow_reader_gets_everything_and_costs_no_memory(sampan: Sampan) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa $i; done; exit 4"
    client = sampan.start("run", "--name", "web", "busybox", "sh", "-c", script)
    wait_until(lambda: sampan("ps", "-q").lines)
    time.sleep(0.5)

    assert sampan.inspect("web")["State"]["Running"]  # held up
    out, _ = client.communicate(timeout=60)
    assert len(out.splitlines()) == 20000
    assert client.returncode == 4


def test_rm_f_wins_whatever_else_is_asked_at_the_same_moment(sampan: Sampan) -> None:
    dice = random.Random(2)
    others = ["stop -t 0 web", "kill web", "restart -t 0 web", "pause web", "unpause web", "start web", "rm -f web"]
    for _ in range(8):
        clients = [sampan.start("run", "-d", "--name", "web", "busybox", "sleep", "1000")]
        time.sleep(dice.random() / 15)
        clients += [sampan.start(*words.split()) for words in dice.sample(others, 3)]
        for client in clients:
            assert b"Traceback" not in client.communicate(timeout=60)[1]
        sampan("rm", "-f", "web", check=False)

        assert sampan("ps", "-aq").lines == []
        assert sampan.leftovers() == []

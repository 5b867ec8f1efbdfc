"""Real programs in a real Debian: Python, nginx, redis and PostgreSQL, used through their own clients."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.sampan import Sampan, wait_until

IMAGE = "debian:bookworm"


@pytest.fixture
def box(debian: Sampan) -> Iterator[Sampan]:
    yield debian
    debian.remove_everything()
    assert not debian.leftovers()


def test_python_computes_and_serves(box: Sampan) -> None:
    script = "import os, ssl, sqlite3, json; print(json.dumps([os.getpid(), sum(range(10)), os.uname().nodename]))"
    assert json.loads(box("run", "--rm", "--hostname", "box", IMAGE, "python3", "-c", script).line) == [1, 45, "box"]

    box("run", "-d", "--name", "web", "-w", "/etc", IMAGE, "python3", "-m", "http.server", "80")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/hostname').read().decode())"
    found = wait_until(lambda: box("exec", "web", "python3", "-c", fetch, check=False).line, timeout=30)
    assert found == box.inspect("web")["Id"][:12]


def test_threads_processes_and_signals_of_python(box: Sampan) -> None:
    script = (
        "import multiprocessing, threading, signal, os\n"
        "with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, range(-5, 5))))\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n"
        "signal.signal(signal.SIGTERM, lambda *a: (print('term'), os._exit(0))); os.kill(os.getpid(), 15)\n"
    )
    said = box("run", "--rm", "-e", "PYTHONUNBUFFERED=1", IMAGE, "python3", "-c", script)

    assert said.lines == ["25", "thread", "term"]


def test_nginx_serves_a_bound_directory_with_limits(box: Sampan, tmp_path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "index.html").write_text("from the host\n")
    limits = ["--memory", "100m", "--cpus", "0.5", "--pids-limit", "50"]
    mount = ["-v", f"{tmp_path}:/var/www/html:ro"]
    box("run", "-d", "--name", "web", *limits, *mount, IMAGE, "nginx", "-g", "daemon off;")

    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1/').read().decode(), end='')"
    found = wait_until(lambda: box("exec", "web", "python3", "-c", fetch, check=False).line, timeout=30)
    assert found == "from the host"
    box("stop", "web")
    assert box.inspect("web")["State"]["ExitCode"] == 0


def test_redis_keeps_its_data_in_a_volume(box: Sampan) -> None:
    for turn in ("first", "second"):
        box("run", "-d", "--name", turn, "-v", "redis:/data", "-w", "/data", IMAGE, "redis-server", "--dir", "/data")
        wait_until(lambda turn=turn: box("exec", turn, "redis-cli", "ping", check=False).line == "PONG", timeout=30)
        if turn == "first":
            assert box("exec", turn, "redis-cli", "set", "key", "kept").line == "OK"
        assert box("exec", turn, "redis-cli", "get", "key").line == "kept"
        box("stop", turn)
        assert box.inspect(turn)["State"]["ExitCode"] == 0


def test_postgres_runs_as_its_own_user_with_shared_memory(box: Sampan) -> None:
    start = (
        "mkdir -p /run/postgresql && chown postgres /run/postgresql && cd /tmp && "
        "exec setpriv --reuid postgres --regid postgres --init-groups sh -c '"
        "B=$(echo /usr/lib/postgresql/*/bin); $B/initdb -D /tmp/pg >/dev/null && exec $B/postgres -D /tmp/pg'"
    )
    box("run", "-d", "--name", "db", "--shm-size", "128m", IMAGE, "sh", "-c", start)
    psql = ["exec", "-u", "postgres", "db", "psql", "-Atc"]
    wait_until(lambda: box(*psql, "select 1", check=False).line == "1", timeout=90)

    box(*psql, "create table t as select generate_series(1, 1000) n")
    assert box(*psql, "select sum(n) from t").line == "500500"
    assert box(*psql, "select current_user").line == "postgres"
    box("stop", "-t", "20", "db")
    assert "database system is shut down" in box("logs", "db").err


def test_apt_lists_and_installs_nothing_by_itself_but_runs(box: Sampan) -> None:
    assert "python3" in box("run", "--rm", IMAGE, "dpkg", "-l", "python3").out
    assert box("run", "--rm", IMAGE, "sh", "-c", "useradd -m new && su new -c 'id -un'").line == "new"

"""A start never compiles a seccomp filter: it is read from where `create` has kept it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.engine import until
from support.sampan import Sampan


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    return path


def loaded(sampan: Sampan) -> bool:
    """Tell whether the server has needed libseccomp."""
    return "libseccomp" in Path(f"/proc/{sampan.info('ServerPid')}/maps").read_text()


@pytest.mark.parametrize("how", ["a profile", "a capability"])
def test_a_start_and_an_exec_use_the_filter_that_create_has_kept(sampan: Sampan, profile: Path, how: str) -> None:
    flags = ["--security-opt", f"seccomp={profile}"] if how == "a profile" else ["--cap-add", "SYS_ADMIN"]
    command = ["busybox", "sh", "-c", "grep Seccomp: /proc/self/status; mkdir /x; hostname other; sleep 60"]
    sampan("create", "--name", "web", *flags, *command)
    assert loaded(sampan)
    before = sampan.info("ServerPid")
    os.kill(before, signal.SIGKILL)
    until(lambda: sampan.info("ServerPid") != before)

    sampan("start", "web")
    said = until(lambda: text if len((text := sampan("logs", "web").out).split()) >= 2 else "")
    done = sampan("exec", "web", "mkdir", "/y", check=False)
    sampan("create", "--name", "again", *flags, *command)

    assert said.split() == ["Seccomp:", "2"]
    assert bool(done.code) == (how == "a profile")
    assert not loaded(sampan)

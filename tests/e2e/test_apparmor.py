"""A host with AppArmor: containers are confined, or ask not to be. tools/cgroup2 has such a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sampan import Sampan

ENABLED = Path("/sys/module/apparmor/parameters/enabled")

pytestmark = pytest.mark.skipif(
    not ENABLED.exists() or ENABLED.read_text().strip() != "Y" or not Path("/sys/kernel/security/apparmor").exists(),
    reason="missing kernel feature: AppArmor",
)


def profile(sampan: Sampan, *flags: str) -> str:
    return sampan("run", "--rm", *flags, "busybox", "cat", "/proc/self/attr/current").line


def test_a_container_is_confined_by_the_default_profile(sampan: Sampan) -> None:
    assert profile(sampan) == "sampan-default (enforce)"


def test_it_can_be_unconfined_by_request_only(sampan: Sampan) -> None:
    assert profile(sampan, "--security-opt", "apparmor=unconfined") == "unconfined"
    assert profile(sampan, "--privileged") == "unconfined"


def test_an_exec_is_confined_as_well(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "web", "busybox", "sleep", "100")

    assert sampan("exec", "web", "cat", "/proc/self/attr/current").line == "sampan-default (enforce)"


def test_a_profile_that_is_not_loaded_is_refused(sampan: Sampan) -> None:
    assert "nosuch" in sampan.fails(125, "run", "--security-opt", "apparmor=nosuch", "busybox", "true").err


def test_the_profile_denies_what_it_names(sampan: Sampan) -> None:
    flags = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]
    said = sampan("run", "--rm", *flags, "busybox", "mount", "-t", "tmpfs", "none", "/tmp", check=False)

    assert "Permission denied" in said.err

"""Fixtures of all tests. In CI a skip is a failure, unless it names the missing kernel feature."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import network
from support.images import busybox_tar as make_busybox_tar, debian_tar as make_debian_tar
from support.registry import Registry
from support.sampan import Sampan, new_root

UNIT = Path(__file__).parent / "unit"
ALLOWED_SKIPS = ("kernel: ", "missing kernel feature")


def pytest_configure() -> None:
    # Started in a shell's background it ignores SIGINT, and so would every program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A busy machine is no failure.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


def pytest_collection_finish(session: pytest.Session) -> None:
    if not all(item.path.is_relative_to(UNIT) for item in session.items):  # those need no root
        network.isolate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return _no_silent_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return _no_silent_skip((yield))


def _no_silent_skip(report):
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"a skip that names no missing kernel feature fails in CI: {reason}"
    return report


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    if repositories := sys.modules.get("support.repositories"):
        repositories.close_all()


@pytest.fixture
def instance() -> Iterator[Sampan]:
    """Yield the installed program with a root of its own; whatever a test leaves in it is reported as an error."""
    yield from _instance()


@pytest.fixture(scope="module")
def shared(busybox_tar: Path) -> Iterator[Sampan]:
    """Yield one instance for a module whose tests don't depend on one another's leftovers, with `busybox` imported."""
    for sampan in _instance():
        sampan("import", busybox_tar, "busybox")
        yield sampan


def _instance() -> Iterator[Sampan]:
    sampan = Sampan(new_root())
    try:
        yield sampan
        if sampan.socket.exists():
            sampan.remove_everything()
        left = sampan.leftovers()
    finally:
        sampan.end()
    assert not left, left


@pytest.fixture
def sampan(shared: Sampan) -> Iterator[Sampan]:
    """Yield the module's instance; remove all its containers afterwards and insist that nothing of them is left."""
    yield shared
    shared.remove_everything()
    left = shared.leftovers()
    assert not left, left


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tar of a small root filesystem: BusyBox and three users."""
    return make_busybox_tar(tmp_path_factory.mktemp("images") / "busybox.tar")


@pytest.fixture
def busybox_image(instance: Sampan, busybox_tar: Path) -> str:
    """Import it into this test's instance; return its name."""
    instance("import", busybox_tar, "busybox")
    return "busybox"


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """Return the tar of a Debian with python3, nginx, redis and postgres (slow the first time)."""
    return make_debian_tar()


@pytest.fixture(scope="session")
def debian(debian_tar: Path) -> Iterator[Sampan]:
    """Yield an instance that has that Debian as `debian:bookworm`, for the whole session."""
    for sampan in _instance():
        sampan("import", debian_tar, "debian:bookworm", timeout=300)
        yield sampan


@pytest.fixture
def debian_image(instance: Sampan, debian_tar: Path) -> str:
    """Import Debian into this test's instance (slow); return its name."""
    instance("import", debian_tar, "debian:bookworm", timeout=300)
    return "debian:bookworm"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry on a loopback port, ended with the module."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.end()

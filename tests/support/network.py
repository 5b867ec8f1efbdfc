"""A network of the tests' own: the session moves into a new namespace, so that no bridge or rule reaches the host's."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.kernel.link import loopback_up
from sampan.kernel.namespaces import CLONE, setns, unshare

_host: list[int] = []


def isolate() -> None:
    """Leave the host's network, with all processes to be started; loopback is there, and nothing else."""
    if not _host:
        _host.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        unshare(CLONE.NEWNET)
        loopback_up()


@contextmanager
def of_the_host() -> Iterator[None]:
    """Be back in the host's network, to reach package registries: for this thread, and what it starts meanwhile."""
    if not _host:
        yield
        return
    ours = os.open(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(_host[0], CLONE.NEWNET)
        try:
            yield
        finally:
            setns(ours, CLONE.NEWNET)
    finally:
        os.close(ours)

"""What an update makes of a container's limits."""

from __future__ import annotations

import pytest

from sampan.engine.updating import merged
from sampan.errors import Conflict, InvalidInput, Unsupported
from sampan.spec.docker import ContainerUpdate, HostConfig, RestartPolicy, Ulimit

OURS = HostConfig(memory=64 << 20, memory_swap=128 << 20, nano_cpus=10**9, pids_limit=9, cpu_shares=5)


def test_what_is_given_is_changed_and_the_rest_stays() -> None:
    found = merged(OURS, ContainerUpdate(memory=100 << 20, pids_limit=-1, restart_policy=RestartPolicy(name="always")))

    assert (found.memory, found.memory_swap, found.pids_limit, found.cpu_shares) == (100 << 20, 128 << 20, None, 5)
    assert found.restart_policy.name == "always"
    assert merged(OURS, ContainerUpdate()) == OURS


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (ContainerUpdate(ulimits=(Ulimit(name="nofile"),)), Unsupported, "update of Ulimits"),
        (ContainerUpdate(memory_swappiness=0), Unsupported, "update of MemorySwappiness"),
        (ContainerUpdate(cgroup_parent="/x"), Unsupported, "update of CgroupParent"),
        (ContainerUpdate(memory=200 << 20), InvalidInput, "should be smaller than already set memoryswap limit"),
        (ContainerUpdate(cpu_quota=5000), Conflict, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ],
)
def test_what_can_not_be_changed_is_refused(given: ContainerUpdate, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        merged(OURS, given)

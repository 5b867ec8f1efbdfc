"""Weights and rates of block devices: the paths that are asked for, as the numbers that the kernel takes."""

from __future__ import annotations

import os
import stat
from glob import glob
from typing import TYPE_CHECKING

from sampan.errors import InvalidInput, Unsupported
from sampan.spec.host import CgroupMode
from sampan.spec.runtime import BlockIo, ThrottleDevice, WeightDevice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.spec.docker import HostConfig
    from sampan.spec.docker.container import ThrottleDevice as Throttle
    from sampan.spec.host import Host

_LEAST, _MOST = 10, 1000
_SET_BFQ = "echo bfq > /sys/block/{}/queue/scheduler"


def block_io(host_config: HostConfig, host: Host, warnings: list[str]) -> BlockIo | None:
    """Return what is asked of block devices. Weights are left out, with Docker's warning, where nothing heeds them."""
    weight, devices = host_config.blkio_weight, host_config.blkio_weight_device or ()
    for each in (weight, *(device.weight for device in devices)):
        if each and not _LEAST <= each <= _MOST:
            raise InvalidInput("Range of blkio weight is from 10 to 1000")
    if (weight or devices) and not _weighs(host):
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        weight, devices = 0, ()
    elif weight and not _weighs(host, "[bfq]"):
        warnings.append(f"--blkio-weight has no effect until a disk has the scheduler bfq: {_SET_BFQ.format('DISK')}")
    found = BlockIo(
        weight=weight or None,
        weight_device=tuple(_weight(host, device.path, device.weight) for device in devices),
        throttle_read_bps_device=_throttles(host_config.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(host_config.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(host_config.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(host_config.blkio_device_write_iops),
    )
    return None if found == BlockIo() else found


def _weighs(host: Host, word: str = "bfq", disks: str = "/sys/block/*") -> bool:
    """Tell whether a disk can be shared by weight: `word` is among its schedulers, or in v2 a controller does it."""
    if host.cgroup_mode is CgroupMode.V2 and os.path.exists(f"{dict(host.cgroup_mounts)['']}/io.cost.qos"):
        return True
    for path in glob(f"{disks}/queue/scheduler"):
        with open(path) as file:
            if word in file.read():
                return True
    return False


def _weight(host: Host, path: str, weight: int) -> WeightDevice:
    major, minor = _numbers(path)
    if not _weighs(host, "[bfq]", f"/sys/dev/block/{major}:{minor}"):
        raise Unsupported(
            f"can't give {path} a weight: it is no disk with the scheduler bfq",
            _SET_BFQ.format(os.path.basename(path)),
        )
    return WeightDevice(major=major, minor=minor, weight=weight)


def _throttles(given: Iterable[Throttle] | None) -> tuple[ThrottleDevice, ...]:
    found = []
    for device in given or ():
        major, minor = _numbers(device.path)
        if device.rate < 0:
            raise InvalidInput(f"invalid rate for {device.path}: {device.rate}", "it is a number a second")
        found.append(ThrottleDevice(major=major, minor=minor, rate=device.rate))
    return tuple(found)


def _numbers(path: str) -> tuple[int, int]:
    try:
        info = os.stat(path)
    except OSError:
        raise InvalidInput(f"no such device: {path}", "name a block device: /dev/sda") from None
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidInput(f"{path} is not a block device", "name a whole disk: /dev/sda")
    return os.major(info.st_rdev), os.minor(info.st_rdev)

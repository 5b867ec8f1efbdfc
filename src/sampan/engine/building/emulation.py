"""Programs of other machines: whether this kernel runs them, by itself or by an emulator.

Emulators are registered with binfmt_misc: the kernel's admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sampan.errors import Unsupported
from sampan.image import platforms

if TYPE_CHECKING:
    from sampan.spec.distribution import Platform

_BINFMT = "/proc/sys/fs/binfmt_misc"
_MACHINES = {
    "386": 3,
    "amd64": 62,
    "arm": 40,
    "arm64": 183,
    "loong64": 258,
    "mips64le": 8,
    "ppc64le": 21,
    "riscv64": 243,
    "s390x": 22,
}
"""e_machine of elf(5)."""
_BY_ITSELF = {("amd64", "386"), ("arm64", "arm")}
_MACHINE_AT = 18  # in an ELF file's header
_BIG_ENDIAN = frozenset({"s390x"})
_HOW = "register an emulator: qemu-user-static with binfmt-support does, or the image tonistiigi/binfmt"


def check(platform: Platform, directory: str = _BINFMT) -> None:
    """Raise Unsupported where programs of a platform can't be run in a container."""
    own = platforms.own()
    if platform.architecture == own.architecture or (own.architecture, platform.architecture) in _BY_ITSELF:
        return
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        if name in {"register", "status"}:
            continue
        with open(f"{directory}/{name}") as file:
            flags = _emulator(file.read(), platform.architecture)
        if flags is not None and "F" in flags:  # the kernel holds it open: it need not be in the container
            return
        if flags is not None:
            raise Unsupported(
                f"unsupported: programs of {platform} on this machine ({own}): the emulator {name} is registered "
                "without the flag F, and so is sought in the container",
                _HOW,
            )
    raise Unsupported(f"unsupported: programs of {platform} on this machine ({own}): no emulator is registered", _HOW)


def _emulator(entry: str, architecture: str) -> str | None:
    """Return the flags of an entry that is for an architecture's programs and enabled; None of another."""
    lines = entry.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines)
    magic = fields.get("magic", "")
    machine = _MACHINES.get(architecture)
    wanted = machine.to_bytes(2, "big" if architecture in _BIG_ENDIAN else "little").hex() if machine else "?"
    at = 2 * (_MACHINE_AT - int(fields.get("offset") or 0))
    if "enabled" not in lines or not magic.startswith("7f454c46") or magic[at : at + 4] != wanted:
        return None
    return fields.get("flags:", "")

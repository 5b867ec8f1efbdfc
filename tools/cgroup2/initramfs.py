"""An initramfs of BusyBox and some kernel modules, which mounts /dev/vda and starts /init there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SCRIPT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module || echo "no module $module"; done
/bin/busybox mount -t ext4 /dev/vda /new || /bin/busybox poweroff -f
exec /bin/busybox switch_root /new /init
"""


def initramfs(busybox: Path, modules: Sequence[Path]) -> bytes:
    """Return the archive, in cpio's newc format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    members = [(name, 0o40755, b"") for name in ("bin", "dev", "new")]
    members.append(("bin/busybox", 0o100755, busybox.read_bytes()))
    members += [(module.name, 0o100644, module.read_bytes()) for module in modules]
    script = SCRIPT.format(modules=" ".join(module.name for module in modules))
    members += [("init", 0o100755, script.encode()), ("TRAILER!!!", 0, b"")]
    return b"".join(_member(number, *member) for number, member in enumerate(members, 1))


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)

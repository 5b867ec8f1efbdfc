"""The local driver's options of a volume, which then is what they name, in the words of mount(8). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.errors import InvalidInput, Unsupported
from sampan.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.engine.mounts import Wanted

_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = (("device", "type"), ("type", "device"), ("o", "device"), ("o", "type"))
_BIND_WORDS = frozenset({"bind", "rbind"})


def check(options: Mapping[str, str]) -> None:
    """Raise for what is not an option, or lacks another, in Docker's words; Unsupported for what is not done."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidInput(f'invalid option: "{name}"', "there are type, device and o, and size")
    size_bytes(options)
    if "size" in options and len(options) > 1:
        raise InvalidInput("invalid option: size is of a volume that has no device")
    for name, needed in _NEEDS:
        if name in options and needed not in options:
            raise InvalidInput(f'missing required option: "{needed}"')
    if options.get("type") == "tmpfs":
        raise Unsupported(
            "unsupported: a volume of type tmpfs",
            "a container has its own with --tmpfs PATH; to share one: type=none,o=bind,device=/dev/shm/NAME",
        )
    if any(word.partition("=")[0] == "loop" for word in _words(options)):
        raise Unsupported("unsupported: option loop of a volume", "make the device before: losetup --find --show FILE")
    if is_bind(options) and not options["device"].startswith("/"):
        raise InvalidInput(f"invalid device {options['device']!r}: a bind needs an absolute path")


def size_bytes(options: Mapping[str, str]) -> int:
    """Return how much a volume may hold; 0: any amount. Raises InvalidInput."""
    if "size" not in options:
        return 0
    size = parse_bytes(options["size"])
    if size <= 0:
        raise InvalidInput(f"invalid size: {options['size']!r}: it must be greater than 0")
    return size


def is_device(options: Mapping[str, str]) -> bool:
    """Tell whether the volume is what the options name, and no directory of ours."""
    return "device" in options


def is_bind(options: Mapping[str, str]) -> bool:
    """Tell whether the device is a directory of this host."""
    return options.get("type") in ("bind", "none") or not _BIND_WORDS.isdisjoint(_words(options))


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get("o", "").split(",") if word]


def placed(mount: Wanted, options: Mapping[str, str]) -> Wanted:
    """Return the mount of a volume that has these options."""
    if not is_device(options):
        return msgspec.structs.replace(mount, driver_options=dict(options))
    words = _words(options)
    readonly = mount.readonly or "ro" in words
    common = {"driver_options": dict(options), "source": options["device"], "readonly": readonly}
    if is_bind(options):
        return msgspec.structs.replace(mount, recursive="rbind" in words, **common)
    kept = tuple(word for word in words if word not in ("ro", "rw"))
    options_of_all = (*mount.options, *kept)
    return msgspec.structs.replace(mount, filesystem=options["type"], options=options_of_all, copy=False, **common)

"""Switches of the host's network: set when a network needs them, recorded before, and put back.

The record is a file under RUN, which a reboot may leave while it resets the switches: it is of one boot, and of one
network namespace.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import NotPermitted, Unsupported
from sampan.kernel.newfile import new_file
from sampan.spec.decoding import decode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sampan.errors import SampanError
    from sampan.network.firewall_ops import SetSysctl

_RTF_ADDRCONF = 0x40000
_FORWARDING6 = "net.ipv6.conf.all.forwarding"
_FORWARDING = {"net.ipv4.ip_forward": "ipv4", _FORWARDING6: "ipv6"}


class _Record(msgspec.Struct, frozen=True):
    """What the switches were, by their names, in the order in which they were set, and where."""

    host: str = ""
    sysctls: dict[str, str] = {}


class Switches:
    """The host's switches as one instance has changed them. Not for several threads at once."""

    def __init__(self, record: str, tell: Callable[[str, str], None]) -> None:
        """`tell` is called with the name and value of each that was set."""
        self._path = record
        self._tell = tell
        self._was = _read(record)

    def told(self) -> tuple[str, ...]:
        """Say which were changed: "net.ipv4.ip_forward is 1, was 0"."""
        return tuple(f"{name} is {_now(name)}, was {value}" for name, value in self._was.items())

    def forwarding(self) -> tuple[str, ...]:
        """Return the versions of IP that the host forwards since then."""
        return tuple(_FORWARDING[name] for name in self._was if name in _FORWARDING)

    def set(self, wanted: Iterable[SetSysctl]) -> None:
        """Set what isn't so already, and say so. What was is recorded first."""
        for switch in wanted:
            try:
                if read(switch.name) != switch.value:
                    self._set(switch)
            except OSError as e:
                raise _refused(switch, e) from e

    def _set(self, switch: SetSysctl) -> None:
        if switch.name == _FORWARDING6:
            self._keep_routes()
        self._change(switch.name, switch.value)
        print(f"sampan: set {switch.name} to {switch.value}, which networks need", file=sys.stderr, flush=True)
        self._tell(switch.name, switch.value)

    def _keep_routes(self) -> None:
        """Have links that learn their routes from a router go on so: one that forwards does it only when told twice.

        accept_ra in Linux's Documentation/networking/ip-sysctl.rst.
        """
        for link in _learning():
            name = f"net.ipv6.conf.{link.replace('.', '/')}.accept_ra"
            if read(name) == "1":
                self._change(name, "2")

    def _change(self, name: str, value: str) -> None:
        if name not in self._was:
            self._was = {**self._was, name: read(name)}
            self._write()
        write(name, value)

    def undo(self, *, needed: bool) -> None:
        """Put back what was, the last first; what others need by now (`needed`) stays, and that is said."""
        for name, value in reversed(self._was.items()):
            if needed:
                print(f"sampan: {name} stays as it is: others' rules deal with forwarded packets too", file=sys.stderr)
                continue
            with suppress(OSError):  # a link that is gone
                write(name, value)
        self._was = {}
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _write(self) -> None:
        with new_file(self._path, 0o600) as file:
            file.write(msgspec.json.encode(_Record(_host(), self._was)))


def _refused(switch: SetSysctl, error: OSError) -> SampanError:
    message = f"can't set {switch.name} to {switch.value}: {(error.strerror or '').lower()}"
    if isinstance(error, FileNotFoundError):
        return Unsupported(
            message, "this kernel has no IPv6: make the network without it" if "ipv6" in switch.name else ""
        )
    by_hand = f"where /proc/sys can't be written, set it from outside: sysctl -w {switch.name}={switch.value}"
    return NotPermitted(message, f"{by_hand}; --internal networks don't need it")


def _learning() -> set[str]:
    """Return the links that have routes of a router's telling (RTF_ADDRCONF)."""
    with open("/proc/thread-self/net/ipv6_route", encoding="ascii") as file:
        routes = [line.split() for line in file]
    return {link for *_, flags, link in routes if int(flags, 16) & _RTF_ADDRCONF}


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            record = decode_json(file.read(), _Record)
    except (FileNotFoundError, msgspec.DecodeError):  # cut short by a power cut, which has reset the switches as well
        return {}
    return record.sysctls if record.host == _host() else {}


def _host() -> str:
    """Name this boot and this network namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.stat('/proc/thread-self/ns/net').st_ino}"


def forwarded() -> tuple[str, ...]:
    """Return the versions of IP whose packets the host forwards."""
    return tuple(version for name, version in _FORWARDING.items() if _now(name) == "1")


def _now(name: str) -> str:
    try:
        return read(name)
    except FileNotFoundError:  # a link that is gone; a kernel without IPv6
        return ""


def read(name: str) -> str:
    """Return a switch's value."""
    with open(_file(name), encoding="ascii") as file:
        return file.read().strip()


def write(name: str, value: str) -> None:
    """Set a switch."""
    with open(_file(name), "w", encoding="ascii") as file:
        file.write(value)


def _file(name: str) -> str:
    return "/proc/sys/" + name.translate({ord("."): "/", ord("/"): "."})

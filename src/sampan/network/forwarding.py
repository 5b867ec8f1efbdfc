"""Switches of the host's network: set when a network needs them, recorded before, and put back.

The record is a file under RUN, which a reboot empties as it resets the switches themselves.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from sampan.errors import doing
from sampan.kernel.newfile import new_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.network.firewall_ops import SetSysctl

_FORWARDING6 = "net.ipv6.conf.all.forwarding"


class _Record(msgspec.Struct, frozen=True):
    """What the switches were, by their names, in the order in which they were set."""

    sysctls: dict[str, str] = {}


class Switches:
    """The host's switches as one instance has changed them. Not for several threads at once."""

    def __init__(self, record: str) -> None:
        self._path = record
        self._was = _read(record).sysctls

    @property
    def changed(self) -> tuple[str, ...]:
        """Those that were changed."""
        return tuple(self._was)

    def set(self, wanted: Iterable[SetSysctl]) -> None:
        """Set what isn't so already, and say so. What was is recorded first."""
        for switch in wanted:
            with doing(f"can't set {switch.name} to {switch.value}"):
                if read(switch.name) != switch.value:
                    self._set(switch)

    def _set(self, switch: SetSysctl) -> None:
        if switch.name == _FORWARDING6:
            self._keep_routes()
        self._change(switch.name, switch.value)
        print(f"sampan: set {switch.name} to {switch.value}, which networks need", file=sys.stderr, flush=True)

    def _keep_routes(self) -> None:
        """Have links that learn their routes from a router go on so: one that forwards does it only when told twice.

        accept_ra in Linux's Documentation/networking/ip-sysctl.rst.
        """
        for link in os.listdir("/proc/sys/net/ipv6/conf"):
            name = f"net.ipv6.conf.{link.replace('.', '/')}.accept_ra"
            if link not in ("all", "lo") and read(name) == "1" and read(name.replace("accept_ra", "forwarding")) == "0":
                self._change(name, "2")

    def _change(self, name: str, value: str) -> None:
        if name not in self._was:
            self._was = {**self._was, name: read(name)}
            self._write()
        write(name, value)

    def undo(self) -> None:
        """Put back what was, the last first; what is gone, or somebody else changed meanwhile, is left alone."""
        for name, value in reversed(self._was.items()):
            with suppress(OSError):
                write(name, value)
        self._was = {}
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _write(self) -> None:
        with new_file(self._path, 0o600) as file:
            file.write(msgspec.json.encode(_Record(self._was)))


def _read(path: str) -> _Record:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):  # cut short by a power cut, which has reset the switches as well
        return _Record()


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

"""Seccomp filters: install one, read a shipped one, compile a profile; seccomp(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, byref, c_uint, c_ushort, c_void_p
from typing import TYPE_CHECKING, Any

from sampan.errors import Unsupported
from sampan.kernel.libc import ARCHITECTURE, Syscall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECCOMP_SET_MODE_FILTER = 1
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # there is one thread, and with a listener the kernel refuses it
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_NEW_LISTENER": 1 << 3,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
"""For `set_filter`, by their names in linux/seccomp.h."""

_INSTRUCTION_BYTES = 8
_DEFAULTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "spec", "defaults")
_cache: dict[tuple[str, str], bytes] = {}


class _Program(ctypes.Structure):
    _fields_ = [("len", c_ushort), ("filter", c_void_p)]


_seccomp = Syscall("seccomp", c_uint, c_uint, POINTER(_Program))


def set_filter(bpf: bytes, *, flags: int = 0) -> int:
    """Put this thread, and all that it starts, under a filter, for good. Needs CAP_SYS_ADMIN or no_new_privs.

    With NEW_LISTENER among the `flags` the listener's descriptor is returned, which is close-on-exec.
    """
    code = ctypes.create_string_buffer(bpf, len(bpf))
    program = _Program(len(bpf) // _INSTRUCTION_BYTES, ctypes.addressof(code))
    return _seccomp(SECCOMP_SET_MODE_FILTER, flags, byref(program))


def default_filter(architecture: str = ARCHITECTURE, variant: str = "default") -> bytes:
    """Return the compiled default profile that sampan ships; `variant` is what `spec.defaults.seccomp.variant` says.

    Read from the package once, then kept: after the root has changed call it only for what was read before.
    """
    key = architecture, variant
    if key not in _cache:
        try:
            with open(f"{_DEFAULTS}/seccomp/{architecture}-{variant}.bpf", "rb") as file:
                _cache[key] = file.read()
        except FileNotFoundError:
            raise Unsupported(
                f"can't use the default seccomp profile: none is shipped for {architecture}",
                "give a profile of your own, or --security-opt seccomp=unconfined",
            ) from None
    return _cache[key]


def default_profile() -> bytes:
    """Return the default profile's source: JSON in Docker's form, for `compile`."""
    with open(f"{_DEFAULTS}/seccomp.json", "rb") as file:
        return file.read()


def compile(
    profile: str | bytes | Mapping[str, Any],
    architecture: str = ARCHITECTURE,
    capabilities: Iterable[str] = (),
    kernel: tuple[int, int] | None = None,
    *,
    installs_all: bool = False,
) -> bytes:
    """Compile a profile, in Docker's or OCI's form, to the filter for a container with these capabilities.

    Takes tens of milliseconds and libseccomp: for the server, which keeps the result; never for a start.
    Raises `InvalidInput` with the place in the JSON, `Unsupported` where libseccomp is absent; also for `flags` and
    SCMP_ACT_NOTIFY, unless the caller `installs_all` of that.
    """
    from sampan.kernel import libseccomp

    return libseccomp.compile(profile, architecture, frozenset(capabilities), kernel, installs_all=installs_all)

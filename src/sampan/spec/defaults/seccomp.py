"""Which shipped form of the default seccomp profile fits a set of capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.spec.defaults import capabilities

if TYPE_CHECKING:
    from collections.abc import Collection

JUDGED = frozenset({
    "CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
})  # fmt: skip
"""The capabilities that open system calls in seccomp.json: others make no difference to the filter."""

VARIANTS: dict[str, frozenset[str]] = {
    "default": JUDGED & frozenset(capabilities.DEFAULT),
    "none": frozenset(),
    "all": JUDGED,
}
"""The forms that are compiled ahead, and what of `JUDGED` each has."""

ARCHITECTURES = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "arm", "i686")


def variant(capabilities: Collection[str]) -> str | None:
    """Name the shipped filter for a container's (bounding) capabilities; None: it must be compiled."""
    judged = JUDGED & frozenset(capabilities)
    return next((name for name, held in VARIANTS.items() if held == judged), None)

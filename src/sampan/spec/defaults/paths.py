"""Paths in a container: where programs are, what of /proc and /sys can't be read, or can't be written."""

from __future__ import annotations

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program is looked for when nothing says otherwise."""

MASKED = (
    "/proc/acpi",  # thermal and power controls of some laptops; CVE-2018-10892
    "/proc/asound",  # whether sound plays on the host
    "/proc/interrupts",  # keystroke and other timing of the host; moby/moby GHSA-6fw5-f8r9-fgfm
    "/proc/kcore",  # the host's memory
    "/proc/keys",  # keyrings are not namespaced
    "/proc/latency_stats",
    "/proc/sched_debug",  # the host's processes
    "/proc/scsi",  # CVE-2017-16539
    "/proc/timer_list",  # host pids
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # power readings leak keys: PLATYPUS, CVE-2020-8694
    "/sys/firmware",
)
"""Hidden: a file behind /dev/null, a directory behind an empty one."""

MASKED_OF_CPU = "/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
"""Hidden too, for each processor that has it (Intel's): as /proc/interrupts."""

READONLY = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",  # most of it is the host's; `--sysctl` sets the namespaced part
    "/proc/sysrq-trigger",  # reboots and crashes the host
)
"""Read-only."""

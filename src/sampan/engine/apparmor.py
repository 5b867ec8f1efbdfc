"""The AppArmor profile that containers have by default: loaded at the server's start where the host has AppArmor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.spec.host import Host

NAME = "sampan-default"
_LOADED = "/sys/kernel/security/apparmor/profiles"
_PARSERS = ("/sbin/apparmor_parser", "/usr/sbin/apparmor_parser")

PROFILE = f"""\
#include <tunables/global>

profile {NAME} flags=(attach_disconnected,mediate_deleted) {{
  #include <abstractions/base>
  network,
  capability,
  file,
  umount,
  # Signals and traces only among containers, and signals from the host's unconfined processes.
  signal (receive) peer=unconfined,
  signal (send,receive) peer={NAME},
  ptrace (trace,read,tracedby,readby) peer={NAME},
  # What the kernel keeps under /proc and /sys is the host's.
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def default_profile(host: Host) -> str:
    """Return the loaded default profile's name; "" where there is none: then each container must say what it wants."""
    if not host.apparmor:
        return ""
    if _is_loaded() or _load():
        return NAME
    return ""


def _is_loaded() -> bool:
    try:
        with open(_LOADED) as file:
            return any(line.split(" ")[0] == NAME for line in file)
    except OSError:
        return False


def _load() -> bool:
    parser = next((path for path in _PARSERS if os.path.exists(path)), None)
    if parser is None:
        return False
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        # posix_spawn, because the server never forks: it has threads.
        pid = os.posix_spawn(parser, [parser, "-Kr"], dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)])
        os.write(write, PROFILE.encode())
    except OSError as e:
        print(f"sampan: can't load the AppArmor profile: {e}", file=sys.stderr, flush=True)
        return False
    finally:
        os.close(read)
        os.close(write)
    return os.waitpid(pid, 0)[1] == 0

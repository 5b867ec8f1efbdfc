"""Causes that are rights: what the kernel did not permit, and which flag takes or gives it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sampan.spec.defaults.capabilities import DEFAULT
from sampan.spec.runtime import SECCOMP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.engine.causes_told import Told
    from sampan.spec.docker.why import Cause

NOT_PERMITTED = re.compile(
    r"operation not permitted|\bEPERM\b|must be suid|effective uid is not 0|no new privileges|you must be root|"
    r"are you root",
    re.IGNORECASE,
)
NOT_THERE = re.compile(r"function not implemented|\bENOSYS\b", re.IGNORECASE)

_SETUID = re.compile(r"must be suid|effective uid is not 0|no new privileges", re.IGNORECASE)
_FILE = re.compile(r"/(?!dev/)[\w./@+-]+")


class _Deed(NamedTuple):
    """What takes a capability, and the words by which programs name it."""

    words: re.Pattern[str]
    capability: str
    what: str


def _deed(words: str, capability: str, what: str) -> _Deed:
    return _Deed(re.compile(words, re.IGNORECASE), capability, what)


# capabilities(7). The first that fits counts.
_DEEDS = (
    _deed(r"iptables|ip6tables|nftables|\bnft\b|rtnetlink|SIOC\w+|ifconfig|brctl|/dev/net/tun|\bip:|wireguard",
          "NET_ADMIN", "to change its network"),
    _deed(r"\bping|raw socket|packet socket|pcap|tcpdump|arping", "NET_RAW", "to use a raw socket"),
    _deed(r"\bu?mount|swapon|pivot_root", "SYS_ADMIN", "to mount"),
    _deed(r"unshare|nsenter|setns|namespace|bwrap|sethostname|hostname", "SYS_ADMIN", "to change namespaces"),
    _deed(r"chroot", "SYS_CHROOT", "to change its root"),
    _deed(r"mknod", "MKNOD", "to make a device"),
    _deed(r"chown|chgrp|changing ownership", "CHOWN", "to give a file away"),
    _deed(r"chmod|changing permissions|utime|setting times", "FOWNER", "to change another user's file"),
    _deed(r"chattr", "LINUX_IMMUTABLE", "to change a file's attributes"),
    _deed(r"setcap", "SETFCAP", "to give a file capabilities"),
    _deed(r"setgroups|setgid|initgroups|setregid|setresgid", "SETGID", "to change its groups"),
    _deed(r"setuid|setreuid|setresuid|seteuid", "SETUID", "to become another user"),
    _deed(r"ptrace|strace|\bgdb\b|attach", "SYS_PTRACE", "to trace a process"),
    _deed(r"settimeofday|clock_settime|set date|hwclock|adjtime|ntpd|chrony", "SYS_TIME", "to set the clock"),
    _deed(r"setpriority|renice|\bnice\b|sched_set|ionice|ioprio|chrt|mbind|mempolicy", "SYS_NICE",
          "to raise a priority"),
    _deed(r"mlock|lock memory", "IPC_LOCK", "to lock memory"),
    _deed(r"setrlimit|ulimit|rlimit", "SYS_RESOURCE", "to raise a limit"),
    _deed(r"insmod|modprobe|init_module|kernel module", "SYS_MODULE", "to load a kernel module"),
    _deed(r"dmesg|klogctl|kernel log|/dev/kmsg", "SYSLOG", "to read the kernel's log"),
    _deed(r"reboot|poweroff|halt", "SYS_BOOT", "to reboot"),
    _deed(r"perf_event|\bperf\b", "PERFMON", "to measure processes"),
    _deed(r"\bbpf", "BPF", "to load a BPF program"),
    _deed(r"\bkill", "KILL", "to send a signal to another user's process"),
)  # fmt: skip


def not_permitted(told: Told) -> Cause:
    """Tell of what the kernel did not permit (EPERM): mostly what takes a capability."""
    if _SETUID.search(told.line):
        return _no_new_privileges(told)
    words = _FILE.sub(_of_program, told.line)
    deed = next((deed for deed in _DEEDS if deed.words.search(words)), None)
    if told.body.host_config.privileged:
        what = deed.what if deed else "something"
        return told.cause("not-permitted", f"it was not permitted {what}", *_restrictions(told))
    if deed:
        return _lacks(told, deed)
    if device := next((path for path in told.paths if path.startswith("/dev/")), ""):
        return told.cause(
            "not-permitted",
            f"it was not permitted to use the device {device}",
            "a container may use the devices that it was given, and a few harmless ones",
            fix=f"run it with --device {device}",
        )
    return told.cause(
        "not-permitted",
        "it was not permitted something",
        *_restrictions(told),
        fix="find what takes the right: run it with --privileged, then give only what was missing by --cap-add, "
        "--device or --security-opt",
    )


def _lacks(told: Told, deed: _Deed) -> Cause:
    """Tell why it has not the capability that this takes."""
    name = f"CAP_{deed.capability}"
    what = f"it was not permitted {deed.what}, which takes {name}"
    if name not in bounding(told):
        taken = "--cap-drop has taken that from it" if name in DEFAULT else "containers don't have that by default"
        return told.cause("not-permitted", what, taken, fix=gives_back(told, deed.capability))
    if told.user:
        return told.cause("not-permitted", what, _as_user(told), fix="run it with -u 0")
    return told.cause(
        "not-permitted",
        what,
        "its root has that capability",
        *_restrictions(told),
        fix="see whether its filter of system calls refuses it: --security-opt seccomp=unconfined",
    )


def lacks(told: Told) -> bool:
    """Whether a program begins its complaint with its name, and does what takes a capability that is not there."""
    deed = next((deed for deed in _DEEDS if deed.words.match(told.line)), None)
    return deed is not None and f"CAP_{deed.capability}" not in bounding(told)


def _of_program(path: re.Match[str]) -> str:
    """Return a program's name; what other files are called tells nothing of what was done."""
    directory, _, name = path[0].rpartition("/")
    return name if directory.endswith("bin") else ""


def gives_back(told: Told, capability: str) -> str:
    """Return how it gets a capability."""
    dropped = [name.upper().removeprefix("CAP_") for name in told.body.host_config.cap_drop or ()]
    if capability in dropped:
        return f"run it without --cap-drop {capability}"
    return f"run it with --cap-add {capability}"


def bounding(told: Told) -> tuple[str, ...]:
    """Return the capabilities that its root has."""
    process = told.spec.process
    return process.capabilities.bounding if process and process.capabilities else ()


def _as_user(told: Told) -> str:
    return f"it runs as user {told.user}, who has no capabilities"


def _restrictions(told: Told) -> Iterator[str]:
    """Yield what takes rights from it."""
    if told.body.host_config.privileged:
        yield "it is privileged: its own user, the host or the file refuses it"
    if told.user:
        yield _as_user(told)
    if dropped := told.body.host_config.cap_drop:
        yield f"it runs with {' '.join(f'--cap-drop {name}' for name in dropped)}"
    if told.spec.process and told.spec.process.no_new_privileges:
        yield "it runs with --security-opt no-new-privileges"
    profile = told.spec.annotations.get(SECCOMP, "unconfined")
    if profile != "unconfined":
        whose = "the default profile" if profile == "default" else "the profile of --security-opt seccomp"
        yield f"{whose} filters its system calls"
    if told.spec.process and told.spec.process.apparmor_profile:
        yield f"the AppArmor profile {told.spec.process.apparmor_profile} confines it"


def _no_new_privileges(told: Told) -> Cause:
    """Tell of sudo, su and their like, which became no other user."""
    what = "a program that makes itself another user, like sudo or su, could not"
    if told.spec.process and told.spec.process.no_new_privileges:
        return told.cause(
            "not-permitted",
            what,
            "it runs with --security-opt no-new-privileges",
            fix="run it without --security-opt no-new-privileges, or as that user from the start: -u",
        )
    return told.cause(
        "not-permitted", what, _as_user(told) if told.user else "", fix="run it as that user from the start: -u USER"
    )


def not_there(told: Told) -> Cause:
    """Tell of a system call that this kernel, or its filter, has not (ENOSYS)."""
    return told.cause(
        "not-permitted",
        "a system call is not there",
        *_restrictions(told),
        fix="see whether its filter of system calls hides it, by --security-opt seccomp=unconfined; else this kernel "
        "has none",
    )

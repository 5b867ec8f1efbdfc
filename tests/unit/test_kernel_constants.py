"""Every number that sampan.kernel knows by heart, compared with the C headers of the machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest

from sampan.kernel import (
    bpf,
    credentials,
    fds,
    inotify,
    keyring,
    libc,
    link,
    mount,
    namespaces,
    netlink,
    path,
    process,
    rtnetlink,
    seccomp,
    tty,
)

NEWER_THAN_SOME_HEADERS = {"PIDFD_INFO_EXIT", "PIDFD_GET_INFO", "MOVE_MOUNT_BENEATH", "MS_NOSYMFOLLOW"}


def flags(enum, prefix: str, but: tuple[str, ...] = ()) -> dict[str, int]:
    return {prefix + name: int(member) for name, member in enum.__members__.items() if name not in but}


CONSTANTS: dict[str, dict[str, int]] = {
    "linux/sched.h": flags(namespaces.CLONE, "CLONE_"),
    "asm/fcntl.h linux/mount.h": {
        **flags(mount.MS, "MS_"),
        **flags(mount.OPEN_TREE, "OPEN_TREE_"),
        **flags(mount.MOVE_MOUNT, "MOVE_MOUNT_"),
        **flags(mount.MOUNT_ATTR, "MOUNT_ATTR_", ("ATIME",)),
        "MOUNT_ATTR__ATIME": mount.MOUNT_ATTR.ATIME,
        "FSOPEN_CLOEXEC": mount._FSOPEN_CLOEXEC,
        "FSMOUNT_CLOEXEC": mount._FSMOUNT_CLOEXEC,
        "+FSCONFIG_SET_FLAG": mount._FSCONFIG_SET_FLAG,
        "+FSCONFIG_SET_STRING": mount._FSCONFIG_SET_STRING,
        "+FSCONFIG_SET_FD": mount._FSCONFIG_SET_FD,
        "+FSCONFIG_CMD_CREATE": mount._FSCONFIG_CMD_CREATE,
        "sizeof(struct mount_attr)": ctypes.sizeof(mount._MountAttr),
    },
    "sys/mount.h": {
        "+MNT_FORCE": mount.MNT.FORCE,
        "+MNT_DETACH": mount.MNT.DETACH,
        "+MNT_EXPIRE": mount.MNT.EXPIRE,
        "+UMOUNT_NOFOLLOW": mount.MNT.NOFOLLOW,
    },
    "linux/fcntl.h": {**flags(mount.AT, "AT_"), "AT_FDCWD": mount.AT_FDCWD},
    "linux/openat2.h": {**flags(path.RESOLVE, "RESOLVE_"), "sizeof(struct open_how)": ctypes.sizeof(path._OpenHow)},
    "linux/prctl.h": {
        **{name: getattr(process, name) for name in vars(process) if name.startswith("PR_")},
        **{name: getattr(credentials, name) for name in vars(credentials) if name.startswith("PR_")},
    },
    "linux/capability.h": {
        **credentials.CAPABILITIES,
        "CAP_LAST_CAP": max(credentials.CAPABILITIES.values()),
        "_LINUX_CAPABILITY_VERSION_3": credentials._VERSION_3,
    },
    "linux/seccomp.h": {
        "SECCOMP_SET_MODE_FILTER": seccomp.SECCOMP_SET_MODE_FILTER,
        "SECCOMP_RET_KILL_PROCESS": 0x80000000,
        "SECCOMP_RET_ERRNO": 0x00050000,
    },
    "linux/filter.h": {"sizeof(struct sock_fprog)": ctypes.sizeof(seccomp._Program)},
    "linux/keyctl.h": {"KEYCTL_JOIN_SESSION_KEYRING": keyring.KEYCTL_JOIN_SESSION_KEYRING},
    "linux/close_range.h": {"CLOSE_RANGE_CLOEXEC": fds.CLOSE_RANGE_CLOEXEC},
    "asm/ioctls.h": {name: getattr(tty, name) for name in ("TIOCSPTLCK", "TIOCGPTN", "TIOCGPTPEER")},
    "linux/sockios.h": {"SIOCGIFFLAGS": link.SIOCGIFFLAGS, "SIOCSIFFLAGS": link.SIOCSIFFLAGS},
    "sys/inotify.h": flags(inotify.IN, "+IN_"),
    "linux/pidfd.h": {"PIDFD_INFO_EXIT": process._PIDFD_INFO_EXIT, "PIDFD_GET_INFO": process._PIDFD_GET_INFO},
    "linux/bpf.h": {
        "+BPF_PROG_LOAD": bpf.BPF_PROG_LOAD,
        "+BPF_PROG_ATTACH": bpf.BPF_PROG_ATTACH,
        "+BPF_PROG_DETACH": bpf.BPF_PROG_DETACH,
        "+BPF_PROG_TYPE_CGROUP_DEVICE": bpf.BPF_PROG_TYPE_CGROUP_DEVICE,
        "+BPF_CGROUP_DEVICE": bpf.BPF_CGROUP_DEVICE,
        "BPF_F_ALLOW_MULTI": bpf.BPF_F_ALLOW_MULTI,
        "+BPF_DEVCG_DEV_BLOCK": bpf._TYPES["b"],
        "+BPF_DEVCG_DEV_CHAR": bpf._TYPES["c"],
        "+BPF_DEVCG_ACC_MKNOD": bpf._ACCESS["m"],
        "+BPF_DEVCG_ACC_READ": bpf._ACCESS["r"],
        "+BPF_DEVCG_ACC_WRITE": bpf._ACCESS["w"],
        "BPF_LDX | BPF_MEM | BPF_W": bpf._LOAD_WORD,
        "BPF_ALU64 | BPF_MOV | BPF_K": bpf._MOVE,
        "BPF_ALU64 | BPF_MOV | BPF_X": bpf._MOVE_REGISTER,
        "BPF_ALU64 | BPF_AND | BPF_K": bpf._AND,
        "BPF_ALU64 | BPF_RSH | BPF_K": bpf._SHIFT_RIGHT,
        "BPF_JMP | BPF_JNE | BPF_K": bpf._JUMP_NOT_EQUAL,
        "BPF_JMP | BPF_JSET | BPF_K": bpf._JUMP_IF_ANY,
        "BPF_JMP | BPF_JA": bpf._JUMP,
        "BPF_JMP | BPF_EXIT": bpf._EXIT,
    },
    "linux/netlink.h": {
        **{name: getattr(netlink, name) for name in vars(netlink) if name.startswith(("NLM_F_", "NLA_F_", "NETLINK_"))},
        "NLMSG_ERROR": netlink.NLMSG_ERROR,
        "NLMSG_DONE": netlink.NLMSG_DONE,
        "+NLMSGERR_ATTR_MSG": netlink.NLMSGERR_ATTR_MSG,
        "sizeof(struct nlmsghdr)": netlink._HEADER.size,
    },
    "linux/rtnetlink.h": {
        **flags(rtnetlink.RTM, "+RTM_"),
        **flags(rtnetlink.RTA, "+RTA_"),
        **{"+" + name: getattr(rtnetlink, name) for name in vars(rtnetlink) if name.startswith(("RT_", "RTN_"))},
        "RTPROT_BOOT": rtnetlink.RTPROT_BOOT,
        "RTM_F_CLONED": rtnetlink.RTM_F_CLONED,
        "RTEXT_FILTER_SKIP_STATS": rtnetlink.RTEXT_FILTER_SKIP_STATS,
        "sizeof(struct ifinfomsg)": rtnetlink._IFINFOMSG.size,
        "sizeof(struct rtmsg)": rtnetlink._RTMSG.size,
    },
    "linux/if_addr.h": {
        **flags(rtnetlink.IFA, "+IFA_"),
        "IFA_F_NODAD": rtnetlink.IFA_F_NODAD,
        "sizeof(struct ifaddrmsg)": rtnetlink._IFADDRMSG.size,
    },
    "linux/neighbour.h": {
        **flags(rtnetlink.NDA, "+NDA_"),
        "NUD_STALE": rtnetlink.NUD_STALE,
        "sizeof(struct ndmsg)": rtnetlink._NDMSG.size,
    },
    "linux/if.h linux/if_link.h linux/veth.h": {
        **flags(rtnetlink.IFLA, "+IFLA_"),
        **{"+" + name: getattr(rtnetlink, name) for name in vars(rtnetlink) if name.startswith(("IFLA_", "IN6_"))},
        **{f"+MACVLAN_MODE_{mode.upper()}": number for mode, number in rtnetlink.MACVLAN_MODES.items()},
        **{f"+IPVLAN_MODE_{mode.upper()}": number for mode, number in rtnetlink.IPVLAN_MODES.items()},
        "IPVLAN_F_PRIVATE": rtnetlink.IPVLAN_FLAGS["private"],
        "IPVLAN_F_VEPA": rtnetlink.IPVLAN_FLAGS["vepa"],
        "+VETH_INFO_PEER": rtnetlink.VETH_INFO_PEER,
        "+IFF_UP": rtnetlink.IFF_UP,
    },
    "sys/syscall.h": {f"SYS_{name}": number for name, number in libc.SYS.items()},
}


def test_the_numbers_are_those_of_the_headers(tmp_path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    wrong, missing = {}, set()
    for headers, constants in CONSTANTS.items():
        found = printed_by_c(tmp_path, headers, constants)
        missing |= constants.keys() - found.keys()
        wrong |= {name: (value, found[name]) for name, value in constants.items() if found.get(name, value) != value}

    assert wrong == {}
    assert missing <= NEWER_THAN_SOME_HEADERS


def printed_by_c(tmp_path, headers: str, constants: dict[str, int]) -> dict[str, int]:
    """Ask the compiler. A plain name is a macro that old headers may lack; + marks an enumerator; or an expression."""
    lines = ["#include <stdio.h>", *(f"#include <{h}>" for h in headers.split()), "int main(void) {"]
    for name in constants:
        show = f'printf("%lld\\t%s\\n", (long long)({name.lstrip("+")}), "{name}");'
        lines += [f"#ifdef {name}", show, "#endif"] if name.isidentifier() else [show]
    source, program = tmp_path / "constants.c", tmp_path / "constants"
    source.write_text("\n".join([*lines, "return 0; }"]))
    made = subprocess.run(["gcc", "-o", program, source], capture_output=True, text=True, timeout=60, check=False)
    for header in headers.split():
        if f"{header}: No such file" in made.stderr:
            pytest.skip(f"needs the header {header}: apt install linux-libc-dev libc6-dev")
    assert made.returncode == 0, made.stderr
    output = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True).stdout
    pairs = (line.split("\t") for line in output.splitlines())
    return {name: int(number) for number, name in pairs}


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "riscv64", "ppc64le", "s390x", "arm", "i686"])
def test_system_call_numbers_of_other_architectures_are_those_libseccomp_knows(architecture: str) -> None:
    from sampan.kernel import libseccomp, seccomp_profile

    library = libseccomp._library()
    token = library.token(seccomp_profile.NATIVE[architecture])

    for name, number in libc.syscall_numbers(architecture).items():
        assert (name, library.resolve_arch(token, name.encode())) == (name, number)

"""The built-in image `host`: this machine's own root as the read-only lower layer, and over it a cover.

The cover is a small lower layer that hides what is secret, what is another engine's, and what is state of this boot. It
has empty opaque directories, whiteouts, and copies of the password files in which every account is locked; so programs
in the container may change all of them, as `adduser` does, and nothing is mounted over anything. Filesystems mounted
below `/` are no part of the image: overlayfs sees only the one that `/` is on.

overlayfs refuses a lower directory inside another one ("overlapping lowerdir path"), so the cover must lie on another
filesystem than `/`: RUN on most machines, else the store, else /dev/shm.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.errors import Unsupported, doing
from sampan.ids import new_id
from sampan.kernel.trees import remove_tree
from sampan.rootfs.overlay import OPAQUE_XATTR
from sampan.rootfs.writable import is_on_overlay, make_base
from sampan.spec.distribution import Platform
from sampan.spec.image import ExecutionConfig, HistoryEntry, Image, ImageConfig, RootFS

if TYPE_CHECKING:
    from sampan.dirs import Dirs

NAME = "host:latest"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

EMPTIED = (
    # Of this boot, or mounted over anyway
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/lost+found",
    # People's
    "/root", "/home", "/var/mail", "/var/spool/mail", "/var/spool/cron",
    # Keys
    "/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt", "/var/lib/acme", "/etc/wireguard", "/etc/openvpn",
    "/etc/ipsec.d/private", "/etc/swanctl", "/etc/NetworkManager/system-connections", "/etc/netplan",
    "/etc/wpa_supplicant", "/var/lib/NetworkManager", "/var/lib/iwd", "/var/lib/bluetooth", "/etc/credstore",
    "/etc/credstore.encrypted", "/etc/cryptsetup-keys.d", "/etc/luks", "/etc/keys", "/var/lib/sss", "/etc/sssd",
    "/var/lib/samba/private", "/var/lib/krb5kdc", "/etc/krb5kdc", "/etc/cloudflared", "/var/lib/tailscale",
    "/etc/zerotier", "/var/lib/zerotier-one", "/var/lib/tpm2-tss", "/var/lib/fprint", "/etc/secureboot",
    "/var/lib/sbctl", "/etc/vault.d", "/etc/restic", "/etc/borgmatic",
    # Clouds and clusters
    "/var/lib/cloud", "/etc/google", "/var/lib/google", "/var/lib/waagent", "/var/lib/amazon", "/etc/amazon",
    "/etc/kubernetes", "/var/lib/kubelet", "/var/lib/etcd", "/etc/rancher", "/var/lib/rancher", "/etc/cni/net.d",
    # Other engines
    "/etc/docker", "/etc/containers/auth", "/var/lib/docker", "/var/lib/containers", "/var/lib/containerd",
    "/var/lib/cni", "/var/lib/lxc", "/var/lib/lxd", "/var/lib/incus", "/var/lib/machines", "/var/lib/libvirt",
    "/var/snap", "/var/lib/buildkit", "/var/lib/nerdctl", "/var/lib/sampan",
)  # fmt: skip
"""Directories that are there and empty."""

REMOVED = (
    *(f"/etc/ssh/ssh_host_{kind}key" for kind in ("", "rsa_", "dsa_", "ecdsa_", "ed25519_", "xmss_", "mldsa_")),
    "/etc/krb5.keytab", "/etc/ipsec.secrets", "/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets",
    "/etc/wpa_supplicant.conf", "/etc/machine-id", "/var/lib/dbus/machine-id", "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/random-seed", "/etc/security/opasswd", "/etc/nslcd.conf", "/etc/pam_ldap.secret",
    "/etc/ldap.secret", "/etc/libnss-ldap.secret", "/etc/msmtprc", "/etc/exim4/passwd.client",
    "/etc/postfix/sasl_passwd", "/etc/postfix/sasl_passwd.db", "/etc/s3cfg", "/etc/passwd-s3fs", "/etc/boto.cfg",
    "/etc/davfs2/secrets", "/etc/mysql/debian.cnf", "/etc/grub.d/01_password", "/boot/grub/user.cfg",
    "/etc/default/grub.d/password.cfg", "/etc/hibernate.key", "/swapfile", "/swap.img", "/var/swap", "/var/swapfile",
    "/var/backups/shadow.bak", "/var/backups/gshadow.bak", "/var/backups/passwd.bak", "/var/backups/group.bak",
    "/etc/containers/auth.json", "/etc/crictl.yaml", "/.dockerenv", "/.autorelabel",
)  # fmt: skip
"""Files that aren't there."""

LOCKED = ("/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/gshadow-", "/etc/passwd-", "/etc/group-")
"""Password files: present, with every password replaced by one that nothing matches."""

_ACCOUNTS = "/etc/passwd"
_SYSTEM = frozenset(("bin", "boot", "etc", "lib", "lib32", "lib64", "opt", "sbin", "srv", "usr", "var", "mnt", "media"))
_PEOPLE = range(1000, 60000)


def image(machine: str) -> Image:
    """The built-in image, the same for every start on a machine of this kind (uname's `machine`)."""
    platform = Platform.of_machine(machine)
    config = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        config=ExecutionConfig(
            env=(f"PATH={PATH}",), cmd=("/bin/bash",) if os.path.exists("/bin/bash") else ("/bin/sh",)
        ),
        rootfs=RootFS(diff_ids=()),
        history=(HistoryEntry(created_by="this machine's own root", empty_layer=True),),
    )
    raw = msgspec.json.encode(config)
    id = "sha256:" + hashlib.sha256(raw).hexdigest()
    return Image(id=id, config=config, raw_config=raw, repo_tags=(NAME,), host=True)


class Node(NamedTuple):
    """One file of the cover."""

    path: str
    kind: str  # directory, empty (an opaque directory), whiteout, file
    mode: int = 0
    uid: int = 0
    gid: int = 0
    content: bytes = b""


class Cover:
    """Keeps the cover of one instance as the machine is now. `path` is a link to it, and never changes."""

    def __init__(self, dirs: Dirs) -> None:
        self._dirs = dirs
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, ...] | None] | None = None
        self._base = _base(dirs)
        self.path = f"{self._base}/current"

    def refresh(self) -> str:
        """Make the cover, or make it anew if one of the files that it stands for has changed; return `path`."""
        with self._lock, doing("can't use the image host"):
            if self._seen is not None and all(_fact(path) == fact for path, fact in self._seen.items()):
                return self.path
            self._seen = None
            seen: dict[str, tuple[int, ...] | None] = {}
            nodes = plan(self._dirs, seen)
            if os.lstat("/").st_dev == _device(self._base):
                raise Unsupported(
                    "the root filesystem has everything on it", "mount a tmpfs at /dev/shm or /run: overlayfs needs it"
                )
            _build(self._base, nodes)
            seen[self.path] = _fact(self.path)
            self._seen = seen
        return self.path

    def remove(self) -> None:
        """Remove it: no container uses it."""
        with self._lock:
            self._seen = None
            remove_tree(self._base)


def plan(dirs: Dirs, seen: dict[str, tuple[int, ...] | None]) -> list[Node]:
    """Say what the cover must have on this machine as it is now, parents first. `seen` gets all that was looked at."""
    nodes: dict[str, Node] = {}
    for path in sorted({*EMPTIED, *_homes(seen), dirs.root, dirs.run}):
        real = _real(path, seen)
        status = _status(real, seen)
        if real != "/" and status is not None and stat.S_ISDIR(status.st_mode):
            nodes[real] = Node(real, "empty", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    for path in REMOVED:
        nodes[path] = Node(path, "whiteout")
    for path in LOCKED:
        status = _status(path, seen)
        if status is not None and stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = lock(file.read())
            nodes[path] = Node(path, "file", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content)
    for path in sorted(nodes):
        _add_parents(path, nodes, seen)
    return [nodes[path] for path in sorted(nodes)]


def lock(content: bytes) -> bytes:
    """Return a password file in which no password matches. Empty ones are locked too."""
    lines = []
    for line in content.split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 1 and fields[1] not in {b"x", b"!", b"!!", b"*", b"!*"}:
            fields[1] = b"*"
        lines.append(b":".join(fields))
    return b"\n".join(lines)


def _homes(seen: dict[str, tuple[int, ...] | None]) -> set[str]:
    """Home directories of people that are elsewhere than in /home."""
    _status(_ACCOUNTS, seen)
    homes: set[str] = set()
    try:
        with open(_ACCOUNTS, errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return homes
    for line in lines:
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and int(fields[2]) in _PEOPLE and fields[5].startswith("/"):
            home = os.path.normpath(fields[5])
            if home.strip("/") and home.strip("/") not in _SYSTEM and not home.startswith("/usr/"):
                homes.add(home)
    return homes


def _add_parents(path: str, nodes: dict[str, Node], seen: dict[str, tuple[int, ...] | None]) -> None:
    """Directories on the way must look as the machine's own; what is in an emptied one, or nowhere, is left out."""
    parents = []
    above = path
    while (above := os.path.dirname(above)) != "/":
        node = nodes.get(above)
        if node is not None and node.kind == "directory":
            break
        status = _status(above, seen)
        if (node is not None and node.kind != "directory") or status is None or not stat.S_ISDIR(status.st_mode):
            del nodes[path]
            return
        parents.append(Node(above, "directory", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid))
    nodes.update((node.path, node) for node in parents)


def _build(base: str, nodes: list[Node]) -> None:
    name = hashlib.sha256(msgspec.json.encode(nodes)).hexdigest()
    make_base(base)
    if not os.path.isdir(f"{base}/{name}"):
        scratch = f"{base}/.{new_id()}"
        try:
            os.mkdir(scratch, 0o755)
            os.chmod(scratch, 0o755)
            for node in nodes:
                _make(scratch + node.path, node)
            os.rename(scratch, f"{base}/{name}")
        finally:
            remove_tree(scratch)
    link = f"{base}/.{new_id()}"
    os.symlink(name, link)
    os.rename(link, f"{base}/current")


def _make(path: str, node: Node) -> None:
    match node.kind:
        case "whiteout":
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
            return
        case "file":
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(node.content)
        case _:
            os.mkdir(path, 0o700)
            if node.kind == "empty":
                os.setxattr(path, OPAQUE_XATTR, b"y")
    os.chown(path, node.uid, node.gid)
    os.chmod(path, node.mode)


def _base(dirs: Dirs) -> str:
    root = os.lstat("/").st_dev
    for directory, base in ((dirs.run, f"{dirs.run}/host"), (dirs.root, f"{dirs.layers}/host")):
        if _device(directory) != root and not is_on_overlay(directory):  # which keeps no whiteouts
            return base
    return f"/dev/shm/sampan-{zlib.crc32(os.fsencode(dirs.root)):08x}"


def _device(path: str) -> int:
    """The device that `path` is on, or would be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev


def _real(path: str, seen: dict[str, tuple[int, ...] | None]) -> str:
    status = _status(path, seen)
    return path if status is None or stat.S_ISDIR(status.st_mode) else os.path.realpath(path)


def _status(path: str, seen: dict[str, tuple[int, ...] | None]) -> os.stat_result | None:
    seen[path] = _fact(path)
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _fact(path: str) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):  # its own content and times say nothing about the cover
        return (status.st_mode, status.st_uid, status.st_gid)
    return (status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_mtime_ns, status.st_size)

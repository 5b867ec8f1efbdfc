"""Where things are: the only module that knows a path of sampan's own.

    ROOT                     /var/lib/sampan, --root or SAMPAN_ROOT: what must survive a reboot
      config.toml, certs.d/  settings and certificates of this instance alone
      instance               eight hexadecimal digits: in the name of every cgroup, link and table of this instance
      state.db               intent (SQLite)
      boot                   the boot of the machine in which a server was here last
      images/                images.db, blobs/ALGORITHM/HEX (manifests and configs)
      layers/ALGORITHM/HEX/  diff/ (overlay form), layer.json, recipe and replaced/ (for its tar), blob (if kept)
      shapes/HEX/            directories over a chain of layers that give merged ones their metadata (rootfs/overlay)
      containers/ID/         config.json (OCI), upper/, work/, rootfs/ (where the overlay is mounted), ID-json.log
      volumes/NAME/_data
      secrets/HEX            secrets, each a file of root's alone; what a container has of them: containers/ID/secrets/N
      seccomp/HEX.bpf          compiled filters, by the digest of what they were compiled from
      build/                 cache.db (what steps of builds made), selections/HEX (the files that they read)
      build/digests/         of files of contexts, by which they are not read again
      build/mounts/HEX[-N]/  what RUN --mount=type=cache keeps: data/, about.json
      tmp/                   unfinished work; emptied at every start, less what workers hold (image/unfinished)
      registry/              what `sampan registry serve` serves unless it is told otherwise (registry/directory)
    RUN                      /run/sampan for the default root, else ROOT/run: what must not survive a reboot
      docker.sock            the API
      keeper.lock            held by the keeper as long as it lives
      keeper.log             what keeper and server have to say
      shims/ID/              shim.sock, state.json (fact, written by the shim)
      networks/ID.names      who is on a network, for the shims to answer from
      cgroups/ID             where its control group is, if it was given a parent
      firewall.json          what was changed of the host's firewall and settings, to be undone

shim.sock is bound and reached as /proc/self/fd/N/shim.sock, N being its directory: no path is too long for it.
"""

from __future__ import annotations

import os

DEFAULT_ROOT = "/var/lib/sampan"
DEFAULT_RUN = "/run/sampan"
SETTINGS = "/etc/sampan/config.toml"
"""The settings of all instances."""

_SUN_PATH_MAX = 107
_LONGEST_SOCKET = len("/docker.sock")


class Dirs:
    """One instance's directories, both absolute. Building a path touches nothing on the disk.

    A plain class: the command line imports this at every start, and `typing` would double that.
    """

    __slots__ = ("root", "run")

    def __init__(self, root: str, run: str) -> None:
        self.root = root
        self.run = run

    def __repr__(self) -> str:
        return f"Dirs({self.root!r}, {self.run!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dirs) and (self.root, self.run) == (other.root, other.run)

    def __hash__(self) -> int:
        return hash((self.root, self.run))

    @property
    def socket(self) -> str:
        """The API's socket: what goes into DOCKER_HOST after `unix://`."""
        return f"{self.run}/docker.sock"

    @property
    def keeper_lock(self) -> str:
        """Held by the keeper with flock(2)."""
        return f"{self.run}/keeper.lock"

    @property
    def keeper_log(self) -> str:
        """Where keeper and server write what goes wrong."""
        return f"{self.run}/keeper.log"

    @property
    def instance(self) -> str:
        """The file with the instance's id."""
        return f"{self.root}/instance"

    @property
    def database(self) -> str:
        """SQLite, the server is its only writer."""
        return f"{self.root}/state.db"

    @property
    def settings(self) -> str:
        """The settings of this instance alone."""
        return f"{self.root}/config.toml"

    @property
    def certificates(self) -> str:
        """certs.d/HOST[:PORT]/*.crt, *.cert, *.key."""
        return f"{self.root}/certs.d"

    @property
    def images(self) -> str:
        """images.db and blobs/."""
        return f"{self.root}/images"

    @property
    def layers(self) -> str:
        """layers/ALGORITHM/HEX/diff."""
        return f"{self.root}/layers"

    @property
    def shapes(self) -> str:
        """shapes/HEX."""
        return f"{self.root}/shapes"

    @property
    def volumes(self) -> str:
        """volumes/NAME/_data."""
        return f"{self.root}/volumes"

    @property
    def secrets(self) -> str:
        """secrets/HEX."""
        return f"{self.root}/secrets"

    @property
    def seccomp(self) -> str:
        """Compiled filters."""
        return f"{self.root}/seccomp"

    @property
    def build(self) -> str:
        """What builds keep from one to the next."""
        return f"{self.root}/build"

    @property
    def build_digests(self) -> str:
        """Digests of files of contexts, remembered."""
        return f"{self.root}/build/digests"

    @property
    def build_mounts(self) -> str:
        """The same for their RUNs."""
        return f"{self.root}/build/mounts"

    @property
    def tmp(self) -> str:
        """Unfinished work, on the same filesystem as what it will become."""
        return f"{self.root}/tmp"

    @property
    def registry(self) -> str:
        """What `sampan registry serve` serves unless it is told otherwise."""
        return f"{self.root}/registry"

    @property
    def containers(self) -> str:
        """containers/ID."""
        return f"{self.root}/containers"

    @property
    def shims(self) -> str:
        """shims/ID."""
        return f"{self.run}/shims"

    @property
    def networks(self) -> str:
        """networks/ID.names."""
        return f"{self.run}/networks"

    @property
    def cgroups(self) -> str:
        """cgroups/ID."""
        return f"{self.run}/cgroups"

    @property
    def boot(self) -> str:
        """The boot of the machine in which a server was here last."""
        return f"{self.root}/boot"

    @property
    def firewall(self) -> str:
        """What was changed of the host."""
        return f"{self.run}/firewall.json"

    def layer(self, diff_id: str) -> str:
        """A layer's directory, by the digest of its uncompressed tar."""
        algorithm, _, digits = diff_id.partition(":")
        return f"{self.layers}/{algorithm}/{digits}"

    def container(self, id: str) -> str:
        """What a container keeps: config.json, upper, work, rootfs, files, its log."""
        return f"{self.containers}/{id}"

    def shim(self, id: str) -> str:
        """A running container's facts: shim.sock, state.json."""
        return f"{self.shims}/{id}"


def find(root: str | None = None) -> Dirs:
    """Return the directories of the instance at `root`, else at SAMPAN_ROOT, else the default one.

    A root so long that a socket's path would not fit (108 bytes, unix(7)) has its RUN under /run/sampan-HASH instead.
    """
    root = os.path.realpath(root or os.environ.get("SAMPAN_ROOT") or DEFAULT_ROOT)
    if root == DEFAULT_ROOT:
        return Dirs(root, DEFAULT_RUN)
    run = f"{root}/run"
    if len(os.fsencode(run)) + _LONGEST_SOCKET > _SUN_PATH_MAX:
        import zlib

        run = f"{DEFAULT_RUN}-{zlib.crc32(os.fsencode(root)):08x}"
    return Dirs(root, run)

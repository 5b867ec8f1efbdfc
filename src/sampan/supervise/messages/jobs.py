"""What the server has workers do, one job each, and what they answer."""

from __future__ import annotations

from typing import Literal

import msgspec

from sampan.supervise.messages.base import Message


class Unpack(Message, frozen=True, kw_only=True, tag="unpack"):
    """Unpack one layer: beside it one descriptor from which the compressed tar is read to its end.

    Verifies the compressed digest and the diff id while streaming. The layer is complete when `Unpacked` is answered.
    With a `size`, the worker holds the directory that `target` is in (`image.unfinished`); where the input ends before
    that many bytes it answers `Parked`, and waits at its socket there for `Feed`.
    """

    target: str  # the directory to make, which must not exist: …/tmp/X, renamed by the server
    digest: str | None = None  # of the bytes as read; None: not checked
    diff_id: str | None = None  # of the tar; None: computed only
    keep_blob: bool = False  # also keep the bytes as read
    limits: bytes = b"{}"  # `spec.image.LayerLimits` as JSON
    size: int | None = None  # of the bytes to be read


class Unpacked(Message, frozen=True, kw_only=True, tag="unpacked"):
    """The worker's answer."""

    digest: str
    diff_id: str
    compressed_bytes: int
    content_bytes: int  # of all regular files
    tar_bytes: int = 0
    selection: str = (
        ""  # of `LayFiles`: the digest of the files as they were read, which `SelectFiles` may not have seen
    )


class Pack(Message, frozen=True, kw_only=True, tag="pack"):
    """Write one layer's tar, compressed as `image.compression.Compression` says: beside it the descriptor to write to.

    The layer is written out and verified when `Packed` is answered; without it, what was written is not to be used.
    """

    layer: str  # its directory
    kind: Literal["gzip", "zstd", "none"]
    level: int | None = None


class Packed(Message, frozen=True, kw_only=True, tag="packed"):
    """The worker's answer."""

    digest: str
    size: int
    diff_id: str


class Position(Message, frozen=True, kw_only=True, tag="position"):
    """To a worker that waits: how far is it? Answered by `Parked`. `Forget` lets it give up instead."""


class Parked(Message, frozen=True, kw_only=True, tag="parked"):
    """The worker's input has ended early: it has taken in so many bytes, and waits for those that follow."""

    compressed_bytes: int


class Feed(Message, frozen=True, kw_only=True, tag="feed"):
    """To a worker that waits: beside it one descriptor that gives the bytes that follow. Answered as `Unpack` is."""


class Changes(Message, frozen=True, kw_only=True, tag="changes"):
    """Write what a container has changed, as the API has it, to the descriptor beside it. Answered by `Done`."""

    layers: tuple[str, ...]  # topmost first: the container's own directory, then its image's
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]  # what the root directory was: rootfs.overlay.Metadata
    own: tuple[str, ...] = ()  # where the engine has mounts of its own


class Map(Message, frozen=True, kw_only=True, tag="map"):
    """Find out where the bytes of layers are: beside it the descriptor of a file to write that to.

    It is the JSON of a `spec.docker.ImageMap`, whole when `Done` is answered.
    """

    layers: tuple[str, ...]  # their directories, the lowest first
    numbers: tuple[int, ...]  # of each in its image
    depth: int
    top: int
    nodes: int


class Compose(Message, frozen=True, kw_only=True, tag="compose"):
    """Make a layer of what a container has changed, or with `whole` of all its files. Answered by `Unpacked`."""

    target: str  # the directory to make, which must not exist: …/tmp/X, renamed by the server
    layers: tuple[str, ...]  # these three as in `Changes`
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]
    own: tuple[str, ...] = ()
    newest_ns: int | None = None  # later times of files become this
    whole: bool = False


class Settle(Message, frozen=True, kw_only=True, tag="settle"):
    """Make a layer of what a container has changed, in the place of the directory that it wrote to, which is gone then.

    Nobody may write there any more. Answered by `Unpacked`.
    """

    target: str  # these four as in `Compose`
    layers: tuple[str, ...]
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]]
    own: tuple[str, ...] = ()
    newest_ns: int | None = None


class Squash(Message, frozen=True, kw_only=True, tag="squash"):
    """Make one layer in the place of several. Answered by `Unpacked`."""

    target: str  # as in `Compose`
    layers: tuple[str, ...]  # topmost first, with those below
    count: int  # how many of them become one
    root: tuple[int, int, int, tuple[tuple[str, bytes], ...]] | None = (
        None  # what the layer makes of the root directory
    )


class SelectFiles(Message, frozen=True, kw_only=True, tag="select-files"):
    """Find out which files a COPY or ADD of a build takes, and their digest. Answered by `FilesSelected`."""

    job: bytes  # `build.jobs.Select` as JSON


class FilesSelected(Message, frozen=True, kw_only=True, tag="files-selected"):
    """The worker's answer: as `build.jobs.Selected`."""

    digest: str
    files: int
    content_bytes: int


class LayFiles(Message, frozen=True, kw_only=True, tag="lay-files"):
    """Write a layer of what a COPY or ADD takes, or of a WORKDIR's directory. Answered by `Unpacked`."""

    job: bytes  # `build.jobs.Lay` as JSON


class CompareLayers(Message, frozen=True, kw_only=True, tag="compare-layers"):
    """Find the first difference between the files of two layers, `build.comparing`. Answered by `LayersCompared`."""

    first: str  # their directories
    second: str


class LayersCompared(Message, frozen=True, kw_only=True, tag="layers-compared"):
    """The worker's answer, in words; "" where they have the same files."""

    difference: str = ""


class FindSecrets(Message, frozen=True, kw_only=True, tag="find-secrets"):
    """Look for secrets in a directory, `build.leaks`. Answered by `SecretsFound`."""

    directory: str
    secrets: dict[str, bytes]  # by id


class SecretsFound(Message, frozen=True, kw_only=True, tag="secrets-found"):
    """The worker's answer: the first one, in words; "" where there is none."""

    leak: str = ""


class FetchFiles(Message, frozen=True, kw_only=True, tag="fetch-files"):
    """Get files of a build from elsewhere: beside it, of an archive, may be one descriptor. Answered by `FilesFetched`.

    What comes is on the disk when that is answered; nothing is where it fails.
    """

    job: bytes  # `build.jobs.Fetch` as JSON


class FilesFetched(Message, frozen=True, kw_only=True, tag="files-fetched"):
    """The worker's answer."""

    fetched: bytes  # `build.jobs.Fetched` as JSON


class Export(Message, frozen=True, kw_only=True, tag="export"):
    """Write all files of a container as a tar to the descriptor beside it. Answered by `Done`."""

    layers: tuple[str, ...]  # topmost first


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A container as who carries its files finds it: by its first process, or by the plan that mounts its root."""

    pid: int = 0  # 0: it does not run
    start_time: int = 0
    plan: bytes = b""  # encoded by `runtime.plan.encode`; only its mounts are performed
    uid_mappings: tuple[tuple[int, int, int], ...] = ()  # of its user namespace, as in MakeNamespaces
    gid_mappings: tuple[tuple[int, int, int], ...] = ()


class StatPath(Message, frozen=True, kw_only=True, tag="stat-path"):
    """Tell what a path in a container is, following no link at its end. Answered by `PathFound`."""

    place: Place
    path: str


class PathFound(Message, frozen=True, kw_only=True, tag="path-found"):
    """The answer: `mode` as stat(2) has it, `link_target` where a link leads in the end, inside the container."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


class ReadPath(Message, frozen=True, kw_only=True, tag="read-path"):
    """Write a tar of a path in a container to the descriptor beside it. Answered by `Done`."""

    place: Place
    path: str


class WritePath(Message, frozen=True, kw_only=True, tag="write-path"):
    """Unpack what comes from the descriptor beside it into a directory of a container. Answered by `Done`."""

    place: Place
    path: str
    keep_kinds: bool = False  # a directory does not become anything else, nor anything else a directory
    user: str = ""  # whose all is that is written, as /etc/passwd there has it; "": as the archive says


class RunHooks(Message, frozen=True, kw_only=True, tag="run-hooks"):
    """Run hooks of one point of a container's life in their order. Answered by `Done`, or by what failed.

    `hooks` and `state` are the OCI configuration's and state's objects as JSON bytes. Those of poststop are all run.
    """

    stage: str
    hooks: bytes
    state: bytes
    directory: str


class MakeNamespaces(Message, frozen=True, kw_only=True, tag="make-namespaces"):
    """Make a user namespace and a network namespace that it owns. Answered by `NamespacesMade`.

    They last until the channel is closed. With `user_namespace` the network's owner is that one. A mapping is
    (id in the container, id outside, how many).
    """

    uid_mappings: tuple[tuple[int, int, int], ...]
    gid_mappings: tuple[tuple[int, int, int], ...]
    user_namespace: str = ""


class NamespacesMade(Message, frozen=True, kw_only=True, tag="namespaces-made"):
    """A process is in them."""

    pid: int


class Remove(Message, frozen=True, kw_only=True, tag="remove"):
    """Remove a directory tree of a container's or a layer's, following nothing out of it. Answered by `Done`."""

    path: str


Messages = (
    Unpack | Unpacked | Pack | Packed | Position | Parked | Feed | Changes | Map | Compose | Settle | Squash
    | SelectFiles | FilesSelected | LayFiles | CompareLayers | LayersCompared | FindSecrets | SecretsFound
    | FetchFiles | FilesFetched | Export | StatPath | PathFound | ReadPath | WritePath | RunHooks
    | MakeNamespaces | NamespacesMade | Remove
)  # fmt: skip

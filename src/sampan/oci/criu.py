"""criu's command lines, computed: what `checkpoint` and `restore` call it with. Pure.

What of a container is the host's is not dumped but named, and given again at the restore:

    mounts       mnt[PLACE]:KEY, then mnt[KEY]:SOURCE; KEY is the place, for a device the device
    namespaces   net[INODE]:KEY, then a descriptor inherited as KEY
    descriptors  0, 1 and 2, by the names that `stdio_name` gives; the images directory keeps them in descriptors.json

criu(8) has the options; the keys of namespaces, and descriptors.json, are those of runc and crun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.errors import InvalidInput, Unsupported
from sampan.runtime.cgroups import normal
from sampan.runtime.mounts import is_bind
from sampan.spec.defaults.devices import NODES
from sampan.spec.runtime import KERNEL_NAMES

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sampan.kernel.mount import MountInfo
    from sampan.oci.options import Given
    from sampan.spec.runtime import Spec

    Resolve = Callable[[str], str]

DESCRIPTORS = "descriptors.json"
CONFIG_ANNOTATION = "org.criu.config"
_CONSOLE = "/dev/console"
_CGROUP_MODES = ("soft", "full", "strict", "ignore")
_FLAGS = ("tcp-established", "ext-unix-sk", "shell-job", "file-locks", "auto-dedup", "lazy-pages")
_EXTERNAL = {"network": "extRootNetNS", "pid": "extRootPidNS"}
_NULL = "null:"
"""Before the name of a descriptor that was the null device: it is so again, whatever the restore has there."""
_PTY_MAJORS = range(136, 144)

Cgroups = tuple[tuple[str, str], ...]


class Directories(NamedTuple):
    """Where criu's files are, by absolute paths."""

    images: str
    work: str
    log: str  # a name in `work`


def dump(
    given: Given,
    spec: Spec,
    pid: int,
    directories: Directories,
    cgroups: Cgroups,
    external: Iterable[str],
) -> list[str]:
    """Return the words that dump the process `pid` and all below it; `external` is what is left to the host."""
    words = ["pre-dump" if given.flag("pre-dump") else "dump", "--tree", str(pid)]
    words += _directories(directories)
    assert spec.root
    words += ["--root", spec.root.path]
    words += _shared(given, spec)
    if (freezer := dict(cgroups).get("", dict(cgroups).get("freezer"))) is not None:
        words += ["--freeze-cgroup", freezer]
    if given.flag("leave-running"):
        words.append("--leave-running")
    if parent := given.value("parent-path"):
        words += ["--track-mem", "--prev-images-dir", parent]
    elif given.flag("pre-dump"):
        words.append("--track-mem")
    words += _page_server(given)
    if (status := given.number("status-fd")) is not None and status >= 0:
        words += ["--status-fd", str(status)]
    return [*words, *(word for name in external for word in ("--external", name))]


def restore(
    given: Given,
    spec: Spec,
    directories: Directories,
    pid_file: str,
    cgroup_roots: Iterable[str],
    mounts: Iterable[str],
    inherited: Mapping[str, int],
) -> list[str]:
    """Return the words that make the processes again, as children of criu's parent; `inherited`: descriptors by key."""
    assert spec.root
    words = ["restore", "--restore-detached", "--restore-sibling", "--pidfile", pid_file]
    words += _directories(directories)
    words += ["--root", spec.root.path, "--evasive-devices"]
    words += _shared(given, spec)
    for name in ("lsm-profile", "lsm-mount-context"):
        if value := given.value(name):
            words += [f"--{name}", value]
    for namespace in spec.linux.namespaces:
        if namespace.path and namespace.type not in _EXTERNAL:
            words += ["--join-ns", _joined(namespace.type, namespace.path)]
    for option, values in (("--cgroup-root", cgroup_roots), ("--external", mounts)):
        words += [word for value in values for word in (option, value)]
    return words + [word for key, fd in inherited.items() for word in ("--inherit-fd", f"fd[{fd}]:{key}")]


def refuse(spec: Spec) -> None:
    """Refuse to restore what criu can't be told to make again."""
    if any(normal(m.destination) == "/" for m in spec.mounts if m.type == "overlay"):
        raise Unsupported(
            "can't restore the container: its root is an overlay that is mounted in its own namespace",
            "mount it, and name the place in root.path",
        )
    if spec.hooks and (spec.hooks.prestart or spec.hooks.create_runtime):
        raise Unsupported(
            "can't restore the container: its prestart and createRuntime hooks would have to run while criu works",
            "take them out of the configuration that is restored, and do what they do beforehand",
        )


def _directories(directories: Directories) -> list[str]:
    images, work, log = directories
    return ["--images-dir", images, "--work-dir", work, "--log-file", log, "-v4"]


def _shared(given: Given, spec: Spec) -> Iterator[str]:
    mode = given.value("manage-cgroups-mode") or "soft"
    if mode not in _CGROUP_MODES:
        raise InvalidInput(f"can't use --manage-cgroups-mode {mode}: it is none of {', '.join(_CGROUP_MODES)}")
    yield f"--manage-cgroups={mode}"
    yield from (f"--{name}" for name in _FLAGS if given.flag(name))
    for name in given.values("empty-ns"):
        if name != "network":
            raise InvalidInput(f"can't use --empty-ns {name}: only a network namespace can be left empty")
        yield from ("--empty-ns", "net")
    if CONFIG_ANNOTATION in spec.annotations:
        file = spec.annotations[CONFIG_ANNOTATION]
        yield from ("--config", file) if file else ("--no-default-config",)


def _page_server(given: Given) -> Sequence[str]:
    server = given.value("page-server")
    if not server:
        return ()
    address, colon, port = server.rpartition(":")
    if not colon or not address or not port.isdecimal():
        raise InvalidInput(f"can't use --page-server {server}: it is not ADDRESS:PORT")
    # Pages that are brought later are asked of the dumping criu: it is the server then.
    here = () if given.flag("lazy-pages") else ("--page-server",)
    return (*here, "--address", address.strip("[]"), "--port", port)


def _joined(type: str, path: str) -> str:
    if type == "cgroup":
        raise Unsupported("can't restore the container: criu enters no cgroup namespace that is there already")
    return f"{KERNEL_NAMES.get(type, type)}:{path}"


# -------------------------------------------------------------------------------------------------- what is the host's


def external(spec: Spec, mounted: Sequence[MountInfo], inodes: Mapping[str, int], resolve: Resolve) -> list[str]:
    """Name what is not to be dumped, among the mounts that the container sees and its namespaces (by their inodes)."""
    bound = [resolve(m.destination) for m in spec.mounts if is_bind(m)]
    names = [f"mnt[{place}]:{place}" for place in bound]
    for m in mounted:
        if m.mount_point in bound or m.mount_point == "/":
            continue
        if m.fstype == "devtmpfs":  # a device, or what covers a masked file
            names.append(f"mnt[{m.mount_point}]:/dev{m.root}")
        elif m.fstype == "devpts" and m.mount_point == _CONSOLE:
            names.append(f"mnt[{_CONSOLE}]:{_CONSOLE}")
    return names + [f"{KERNEL_NAMES.get(type, type)}[{inode}]:{_EXTERNAL[type]}" for type, inode in inodes.items()]


def external_again(spec: Spec, resolve: Resolve, console: str = "") -> list[str]:
    """Say where the mounts are that were left to the host; `console` is the terminal's path."""
    names = [f"mnt[{resolve(m.destination)}]:{m.source}" for m in spec.mounts if is_bind(m)]
    devices = {node.path for node in NODES} | {d.path for d in spec.linux.devices} | {"/dev/null"}
    names += [f"mnt[{path}]:{path}" for path in sorted(devices)]
    return [*names, *([f"mnt[{_CONSOLE}]:{console}"] if console else [])]


def places(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield what is mounted on the root's own files: (destination, the source of a bind or "").

    What is below another mount has its place in that: in the host's directory still, in a tmpfs from criu's files.
    """
    found: list[str] = []
    for m in spec.mounts:
        place = normal(m.destination)
        if not any(place.startswith(f"{other}/") for other in found):
            yield place, m.source if is_bind(m) else ""
        found.append(place)


def namespaces(spec: Spec) -> dict[str, str]:
    """Return the namespaces that are left to the host: their paths by their type."""
    return {n.type: n.path for n in spec.linux.namespaces if n.path and n.type in _EXTERNAL}


def namespace_key(type: str) -> str:
    """Return the name under which a restore inherits a namespace."""
    return _EXTERNAL[type]


def cgroup_roots(cgroups: Cgroups, mounts: Mapping[str, str]) -> list[str]:
    """Say which groups the processes are to be in, whatever those were in which they were dumped.

    `mounts` are the mount points by controller.
    """
    return [
        f"{controller}:{directory.removeprefix(mounts[controller])}"
        if controller
        else directory.removeprefix(mounts[""])
        for controller, directory in cgroups
        if controller in mounts
    ]


def stdio_name(link: str, facts: os.stat_result, mount_id: int, mount_ids: frozenset[int]) -> str:
    """Return criu's name of one of a process's first descriptors, `link` where nothing is to be given for it.

    A file of the container is opened by criu itself; one of the host's is inherited, as is a pipe, or a terminal.
    """
    if link.startswith("pipe:"):
        return link
    if _is_terminal(facts):
        return f"tty[{facts.st_rdev:x}:{facts.st_dev:x}]"
    if link.startswith("/") and mount_id not in mount_ids:
        name = f"file[{mount_id:x}:{facts.st_ino:x}]"
        return _NULL + name if _is_null(facts) else name
    return link


def external_stdio(names: Iterable[str]) -> list[str]:
    """Return which of these names are not to be dumped."""
    return [n for n in dict.fromkeys(name.removeprefix(_NULL) for name in names) if n.startswith(("file[", "tty["))]


def _is_null(facts: os.stat_result) -> bool:
    return facts.st_mode & 0o170000 == 0o020000 and facts.st_rdev == 0x103


def _is_terminal(facts: os.stat_result) -> bool:
    return facts.st_mode & 0o170000 == 0o020000 and facts.st_rdev >> 8 & 0xFFF in _PTY_MAJORS


def inherited_stdio(names: Sequence[str], terminal: int, null: int) -> dict[str, int]:
    """Return which descriptors stand for those that were dumped; `terminal` is that of the container, if it has one.

    `null` is open on the null device.

    Several that were the same file are one for criu: the last is taken, which can be written to.
    """
    found = {}
    for fd, name in enumerate(names[:3]):
        if name.startswith("tty["):
            found[name] = terminal if terminal >= 0 else fd
        elif name.startswith(_NULL):
            found[name.removeprefix(_NULL)] = null
        elif name.startswith(("pipe:", "file[")):
            found[name] = fd
    return found


def last_errors(log: str, count: int = 3) -> str:
    """Return what went wrong by criu's log: its last lines that say so, without times and process numbers."""
    lines = [line[line.index("Error") :] for line in log.splitlines() if "Error" in line]
    return "; ".join(lines[-count:])

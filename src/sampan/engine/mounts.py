"""What is to be mounted in a container: `-v`, `--mount`, `--tmpfs` and the image's VOLUMEs, as one list. Pure."""

from __future__ import annotations

import posixpath
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from sampan import ids
from sampan.engine import idmaps, overlay_mounts, secret_uses, volume_options
from sampan.errors import InvalidInput, NotFound, Unsupported, doing
from sampan.runtime.mounts import SUBPATH
from sampan.spec.annotations import CHOWN, IDMAP, WRITABLE
from sampan.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sampan.engine.idmaps import Mappings
    from sampan.engine.secret_uses import Use
    from sampan.spec.docker import ContainerCreate, Mount as Asked
    from sampan.spec.host import Host

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PROPAGATION = frozenset({"shared", "slave", "private", "rshared", "rslave", "rprivate"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated", "default"})  # Docker Desktop's; no meaning on Linux
_OF_MOUNT = frozenset({"dev", "nodev", "exec", "noexec", "suid", "nosuid"})  # Podman's options of binds and volumes
_TMPFS_WORDS = frozenset({
    "rw", "ro", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "mand", "nomand",
    "tmpcopyup", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
})  # fmt: skip
_TMPFS_VALUES = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"})
_SHARED_LABEL = "z"  # what Docker shows of a volume for which no mode is given
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_OF_SECRETS = ("bind", "ro", *_TMPFS_DEFAULTS, "rprivate")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One mount: `type` is bind, volume, tmpfs, image, secret. An anonymous volume has `name` "" until one is made."""

    type: str
    target: str
    source: str = ""  # of a bind: the host's path; of others once known: its directory, of an image: its id
    name: str = ""  # of a volume or image
    anonymous: bool = False
    readonly: bool = False
    create_source: bool = False  # make a directory where there is nothing: what -v does, and --mount does not
    copy: bool = False  # fill an empty volume with what the image has there
    recursive: bool = True
    recursive_readonly: bool | None = None  # None: where the kernel can; True: or else fail
    propagation: str = "rprivate"
    options: tuple[str, ...] = ()  # of mount(8)
    driver_options: dict[str, str] = {}  # of a volume; it may be what they name, and no directory of ours
    filesystem: str = ""  # of a volume: the type of what is mounted, where it is not a directory
    subpath: str = ""  # of a volume or image: the directory or file in it that is mounted
    layers: tuple[str, ...] = ()  # of an image: the directories that show it, topmost first, or one file
    overlay: str = ""  # what is written does not reach the source or the layers: temporary, or kept in `upperdir`
    upperdir: str = ""
    workdir: str = ""
    idmap: str = ""  # other owners for its files: `idmaps`
    chown: bool = False  # its files become the container's user's
    mode: str = ""  # as `inspect` shows what was asked for
    shown: bool = True  # in `inspect`'s Mounts: those of --tmpfs are not
    labels: dict[str, str] = {}


def wanted(
    body: ContainerCreate, inherited: Iterable[Wanted] = (), in_memory: Mapping[str, str] = MappingProxyType({})
) -> tuple[Wanted, ...]:
    """Return every mount that a completed body asks for, outermost first. Raises InvalidInput in Docker's words.

    `inherited` are those of other containers, where the body has none of its own; where that has none either, a tmpfs
    is at each of `in_memory`, with these options.
    """
    host_config = body.host_config
    asked = [mount for text in host_config.binds or () for mount in parse_binds(text)]
    asked += [_from_mount(mount) for mount in host_config.mounts or ()]
    asked += [parse_tmpfs(target, options) for target, options in (host_config.tmpfs or {}).items()]
    asked = _annotated(asked, host_config.annotations or {}) + _secrets(secret_uses.asked(host_config.annotations))
    seen: set[str] = set()
    for mount in asked:
        if mount.target in seen:
            raise InvalidInput(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
    for mount in {mount.target: mount for mount in inherited}.values():  # the last one counts, as with Docker
        if mount.target not in seen:
            seen.add(mount.target)
            asked.append(mount)
    for target, options in (*dict.fromkeys(body.volumes or ()).items(), *in_memory.items()):
        clean = _target("/" + target.lstrip("/"))  # Docker takes a relative one to be of the root
        if clean in seen:
            continue
        seen.add(clean)
        if options is None:
            asked.append(Wanted(type="volume", target=clean, anonymous=True, copy=True))
        else:
            asked.append(parse_tmpfs(clean, options))
    asked += _above_secrets(asked)
    return tuple(sorted(asked, key=lambda mount: mount.target.count("/")))


def _secrets(uses: Iterable[Use]) -> list[Wanted]:
    return [
        Wanted(type="secret", target=_target(use.target), source=str(use.number), readonly=True, shown=False)
        for use in uses
        if use.target
    ]


def _above_secrets(asked: Iterable[Wanted]) -> list[Wanted]:
    """Return the tmpfs that secrets are in, where nothing else is mounted there: no layer gets to know their names."""
    place = secret_uses.DIRECTORY
    below = any(mount.type == "secret" and mount.target.startswith(f"{place}/") for mount in asked)
    return [parse_tmpfs(place, "mode=755,size=64k")] if below and all(mount.target != place for mount in asked) else []


def _annotated(asked: list[Wanted], annotations: Mapping[str, str]) -> list[Wanted]:
    """Add to the mounts what the API has no field for."""
    by_target = {mount.target: mount for mount in asked}
    for name, value in annotations.items():
        prefix = next((prefix for prefix in (IDMAP, CHOWN, WRITABLE) if name.startswith(prefix)), "")
        if not prefix:
            continue
        target = _target(name.removeprefix(prefix))
        if target not in by_target:
            raise InvalidInput(f"invalid annotation {name}: nothing is mounted at {target}")
        if prefix == IDMAP:
            idmaps.check(value)
        elif value not in ("true", "false"):
            raise InvalidInput(f"invalid annotation {name}: {value[:80]!r}", "it is true or false")
        if prefix == WRITABLE:
            by_target[target] = _writable(by_target[target], yes=value == "true")
        else:
            by_target[target] = _owned(by_target[target], ["U"] * (value == "true") if prefix == CHOWN else [value])
    return [by_target[mount.target] for mount in asked]


def _writable(mount: Wanted, *, yes: bool) -> Wanted:
    if mount.type != "image":
        raise InvalidInput(f"invalid mode: rw: {mount.target} is no image")
    return msgspec.structs.replace(mount, readonly=False, overlay="temporary") if yes else mount


def _owned(mount: Wanted, words: Iterable[str]) -> Wanted:
    """Return the mount with Podman's options about owners."""
    for word in words:
        if word not in ("U", "idmap") and not word.startswith("idmap="):
            continue
        if mount.type not in ("bind", "volume"):
            raise InvalidInput(f"invalid mode: {word}: {mount.target} is neither a bind nor a volume")
        if word == "U":
            mount = msgspec.structs.replace(mount, chown=True)
        else:
            idmaps.check(word)
            mount = msgspec.structs.replace(mount, idmap=word)
    return mount


def volumes_from(text: str) -> tuple[str, bool]:
    """Read one of VolumesFrom, "CONTAINER[:ro|rw|z|Z]": the container, and whether it is to be read-only."""
    name, colon, mode = text.partition(":")
    words = mode.split(",") if colon else []
    if not name:
        raise InvalidInput(f"malformed volumes-from specification: {text!r}", "name a container: NAME[:ro]")
    if any(word not in ("ro", "rw", "z", "Z") for word in words):
        raise InvalidInput(f"invalid mode: {mode}", "it is ro or rw")
    return name, "ro" in words


def inherit(mounts: Iterable[Wanted], *, readonly: bool) -> list[Wanted]:
    """Return the mounts of a container as another one has them: not its tmpfs and secrets, which are its own.

    What is read-only there stays so, also where `rw` is said.
    """
    kept = [mount for mount in mounts if mount.type not in ("tmpfs", "secret")]
    return [msgspec.structs.replace(mount, readonly=mount.readonly or readonly) for mount in kept]


def _target(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{path}' mount path must be absolute")
    clean = _clean(path)
    if clean == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    return clean


def parse_binds(text: str) -> list[Wanted]:
    """Read one of Binds as `parse_bind` does, with what is kept out of it: "/host:/path,!sub/directory[:options]".

    Over each of those directories goes an anonymous volume.
    """
    parts = text.split(":")
    if len(parts) < 2 or ",!" not in parts[1]:
        return [parse_bind(text)]
    target, *excluded = parts[1].split(",!")
    outer = parse_bind(":".join((parts[0], target, *parts[2:])))
    return [outer, *(_excluded(text, outer.target, path) for path in excluded)]


def _excluded(text: str, target: str, path: str) -> Wanted:
    clean = posixpath.normpath(path)
    if path.startswith("/") or clean in (".", "..") or clean.startswith("../"):
        raise InvalidInput(
            f"invalid volume specification: '{text}': {path!r} is not a directory below {target}",
            "write it relative to the mount: /src:/app,!node_modules",
        )
    return Wanted(type="volume", target=f"{target}/{clean}", anonymous=True, copy=True)


def parse_bind(text: str) -> Wanted:
    """Read one of Binds: "/host:/path[:options]" or "name:/path[:options]"."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise InvalidInput(f"invalid volume specification: '{text}'", "write it as /host/path:/container/path[:ro]")
    source, mode = parts[0], parts[2] if len(parts) == 3 else ""
    bind = source.startswith("/")
    kind = "bind" if bind else "volume"
    with doing(f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\""):
        target = _target(parts[1])
    if not bind:
        check_volume_name(source)
    words = mode.split(",") if mode else []
    if "O" in words:
        where = {"source": _clean(source)} if bind else {"name": source}
        mount = Wanted(type=kind, target=target, mode=mode, copy=not bind)
        return msgspec.structs.replace(mount, **where, **_overlay(text, words))
    if not _good_mode(words, bind=bind):
        raise InvalidInput(
            f"invalid mode: {mode}", "options are ro, rw, nocopy, z, Z, U, idmap, noexec … and a propagation as rslave"
        )
    propagation = next((word for word in words if word in _PROPAGATION), "rprivate")
    common: dict[str, Any] = {
        "target": target,
        "readonly": "ro" in words,
        "propagation": propagation,
        "options": tuple(word for word in words if word in _OF_MOUNT),
    }
    if bind:
        recursive = "bind" not in words
        mount = Wanted(type="bind", source=_clean(source), create_source=True, recursive=recursive, mode=mode, **common)
    else:
        mount = Wanted(type="volume", name=source, copy="nocopy" not in words, mode=mode or _SHARED_LABEL, **common)
    return _owned(mount, words)


def _overlay(text: str, words: list[str]) -> dict[str, str]:
    """Return what `O` says: alone, or with directories of the host that keep what is written."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    with doing(f"invalid volume specification: '{text}'"):
        if not set(given) <= {"upperdir", "workdir"} or len(words) != len(given) + 1:
            raise InvalidInput("can't use 'O' with other options", "but for upperdir= and workdir=")
        if len(given) == 1:
            raise InvalidInput("must set both `upperdir` and `workdir`", "both on one filesystem, workdir empty")
        for path in given.values():
            if not path.startswith("/"):
                raise InvalidInput(f"'{path}' is not an absolute path")
    return {"overlay": "kept" if given else "temporary", **given}


def _clean(path: str) -> str:
    if "\0" in path:  # normpath of Python 3.11 leaves out what is behind it: CVE-2023-41105
        raise InvalidInput(f"invalid mount path: {path[:200]!r}: it contains a null byte")
    return "/" + posixpath.normpath(path).lstrip("/")


def _good_mode(words: list[str], *, bind: bool) -> bool:
    own = (_PROPAGATION, {"bind", "rbind"}) if bind else ({"copy", "nocopy"},)
    of_mount = ({"dev", "nodev"}, {"exec", "noexec"}, {"suid", "nosuid"})
    groups = ({"ro", "rw"}, {"z", "Z"}, _CONSISTENCY, {"U"}, {"idmap"}, *of_mount, *own)
    kinds = ["idmap" if word.startswith("idmap=") else word for word in words]
    return all(sum(word in group for word in kinds) <= 1 for group in groups) and all(
        any(word in group for group in groups) for word in kinds
    )


def _wrong(asked: Asked, what: str) -> InvalidInput:
    return InvalidInput(f'invalid mount config for type "{asked.type}": {what}')


def _from_mount(asked: Asked) -> Wanted:
    """Turn one of Mounts into ours; options of another type are refused."""
    if asked.type not in _FROM_MOUNT:
        if asked.type in ("npipe", "cluster"):
            raise Unsupported(f"unsupported: mount type {asked.type}", "use bind, volume, tmpfs or image")
        raise _wrong(asked, "mount type unknown")
    if not asked.target:
        raise _wrong(asked, "field Target must not be empty")
    with doing(f'invalid mount config for type "{asked.type}"'):
        target = _target(asked.target)
    for type, given in (
        ("bind", asked.bind_options),
        ("volume", asked.volume_options),
        ("tmpfs", asked.tmpfs_options),
        ("image", asked.image_options),
        ("cluster", asked.cluster_options),
    ):
        if given is not None and type != asked.type:
            raise _wrong(
                asked, f"exactly one of field BindOptions, VolumeOptions or TmpfsOptions may be set: not {type}'s"
            )
    if asked.consistency not in ("", *_CONSISTENCY):
        raise _wrong(asked, f"invalid consistency: {asked.consistency}")
    return _FROM_MOUNT[asked.type](asked, target)


def _bind(asked: Asked, target: str) -> Wanted:
    options = asked.bind_options
    if not asked.source:
        raise _wrong(asked, "field Source must not be empty")
    if not asked.source.startswith("/"):
        raise _wrong(asked, f"invalid mount path: '{asked.source}' mount path must be absolute")
    propagation = (options.propagation if options else "") or "rprivate"
    if propagation not in _PROPAGATION:
        raise _wrong(asked, f"invalid propagation mode: {propagation}")
    if options and options.read_only_non_recursive and options.read_only_force_recursive:
        raise _wrong(asked, "ReadOnlyNonRecursive and ReadOnlyForceRecursive are mutually exclusive")
    recursive_readonly: bool | None = None
    if options and (options.read_only_non_recursive or options.read_only_force_recursive):
        recursive_readonly = options.read_only_force_recursive
    return Wanted(
        type="bind",
        target=target,
        source=_clean(asked.source),
        readonly=asked.read_only,
        create_source=bool(options and options.create_mountpoint),
        recursive=not (options and options.non_recursive),
        recursive_readonly=recursive_readonly,
        propagation=propagation,
    )


def _volume(asked: Asked, target: str) -> Wanted:
    options = asked.volume_options
    if asked.source:
        check_volume_name(asked.source)
    subpath = _subpath(asked, options.subpath if options else "")
    driver = options.driver_config if options else None
    if driver:
        check_driver(driver.name)
    with doing(f'invalid mount config for type "{asked.type}"'):
        volume_options.check((driver and driver.options) or {})
    return Wanted(
        type="volume",
        target=target,
        name=asked.source,
        anonymous=not asked.source,
        readonly=asked.read_only,
        copy=not (options and options.no_copy) and not subpath,
        mode=_SHARED_LABEL,
        labels=dict(options.labels or {}) if options else {},
        driver_options=dict((driver and driver.options) or {}),
        subpath=subpath,
    )


def _subpath(asked: Asked, path: str) -> str:
    if path and (path.startswith("/") or ".." in path.split("/")):
        raise _wrong(asked, f"subpath must be a relative path within the {asked.type}: {path}")
    return path


def _image(asked: Asked, target: str) -> Wanted:
    if not asked.source:
        raise _wrong(asked, "field Source must not be empty")
    subpath = _subpath(asked, asked.image_options.subpath if asked.image_options else "")
    return Wanted(type="image", target=target, name=asked.source, readonly=True, subpath=subpath)


def check_driver(name: str) -> None:
    """Raise InvalidInput for a driver that is not there: as a 404 it would have a docker client pull the image."""
    if name not in ("", "local"):
        error = unknown_driver(name)
        raise InvalidInput(error.message, error.hint)


def unknown_driver(name: str) -> NotFound:
    """Return the error for a volume driver that is not there."""
    return NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found', "there is local")


def check_volume_name(name: str) -> str:
    """Return it. Raises InvalidInput in Docker's words."""
    if len(name) == 1:
        raise InvalidInput(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidInput(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return name


def _tmpfs(asked: Asked, target: str) -> Wanted:
    if asked.source:
        raise _wrong(asked, "field Source must not be specified")
    words = ["ro"] if asked.read_only else []
    options = asked.tmpfs_options
    if options:
        if options.size_bytes < 0 or options.mode < 0:
            raise _wrong(asked, "a tmpfs's size and mode can't be negative")
        words += [f"size={options.size_bytes}"] if options.size_bytes else []
        words += [f"mode={options.mode:o}"] if options.mode else []
        words += ["=".join(pair) for pair in options.options or ()]
    return msgspec.structs.replace(parse_tmpfs(target, ",".join(words)), shown=True)


_FROM_MOUNT = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}


def parse_tmpfs(target: str, options: str) -> Wanted:
    """Read one of Tmpfs: the path, and options of mount(8)."""
    words = [word for word in options.split(",") if word]
    for word in words:
        name, equals, value = word.partition("=")
        good = (name in _TMPFS_VALUES and value) if equals else name in _TMPFS_WORDS
        if not good:
            raise InvalidInput(f'invalid tmpfs option ["{word}"]', "tmpfs(5) and mount(8) name them")
    opposite = {f"no{w}": w for w in ("exec", "suid", "dev")}
    defaults = tuple(word for word in _TMPFS_DEFAULTS if opposite[word] not in words and word not in words)
    return Wanted(
        type="tmpfs",
        target=_target(target),
        readonly="ro" in words,
        options=(*defaults, *words),
        shown=False,
    )


def name_volumes(mounts: Iterable[Wanted], volumes: str) -> tuple[Wanted, ...]:
    """Give anonymous volumes a random name, and every volume its directory under `volumes`."""
    result = []
    for mount in mounts:
        if mount.type == "volume":
            name = mount.name or ids.new_id()
            mount = msgspec.structs.replace(mount, name=name, source=f"{volumes}/{name}/_data")  # noqa: PLW2901
        result.append(mount)
    return tuple(result)


def to_oci(mount: Wanted, host: Host, users: tuple[Mappings, Mappings] = ((), ())) -> Mount:
    """Return the OCI mount. `users` are the mappings of the container's user namespace."""
    if mount.type == "tmpfs":
        return Mount(destination=mount.target, type="tmpfs", source="tmpfs", options=mount.options)
    if mount.overlay:
        return overlay_mounts.to_oci(mount, has_user=users != ((), ()))
    if mount.type == "secret":
        return Mount(destination=mount.target, type="bind", source=mount.source, options=_OF_SECRETS)
    if mount.type == "image":
        if len(mount.layers) == 1:  # an overlay takes two, or one that is written to
            return Mount(destination=mount.target, type="bind", source=mount.layers[0], options=("bind", "ro"))
        options = tuple(f"lowerdir+={directory}" for directory in mount.layers)
        return Mount(destination=mount.target, type="overlay", source="overlay", options=options)
    if mount.filesystem:
        if mount.idmap or mount.chown:
            raise Unsupported(f"can't mount {mount.target} with other owners: it is of type {mount.filesystem}")
        owners = ("idmap",) if users != ((), ()) else ()
        options = (*mount.options, "ro" if mount.readonly else "rw", *owners)
        return Mount(destination=mount.target, type=mount.filesystem, source=mount.source, options=options)
    readonly: tuple[str, ...] = ()  # not rw: what is mounted read-only on the host stays so
    if mount.readonly:
        recursive = mount.recursive and mount.recursive_readonly is not False
        if mount.recursive_readonly and not host.mount_setattr:
            raise Unsupported(
                f"can't mount {mount.target} read-only with all below it: the kernel has no mount_setattr (Linux 5.12)",
                "leave bind-recursive=readonly out",
            )
        readonly = ("rro" if recursive and host.mount_setattr else "ro",)
    options = ("rbind" if mount.recursive else "bind", *readonly, *mount.options, mount.propagation)
    if mount.subpath:
        options = (*options, f"{SUBPATH}{mount.subpath}")
    made = Mount(destination=mount.target, type="bind", source=mount.source, options=options)
    if not mount.idmap:
        return made
    uids, gids = idmaps.mapping(mount.idmap, mount.target, users)
    return msgspec.structs.replace(made, options=(*options, "idmap"), uid_mappings=uids, gid_mappings=gids)

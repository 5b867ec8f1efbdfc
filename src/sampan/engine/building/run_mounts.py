"""What a RUN has mounted beside its root: `--mount`, and the texts of its heredocs.

Files of stages, images and contexts are shown in their place, by an overlay of the very directories that have part in
the one that is mounted: nothing is copied, and what is written goes to the step's own directory, which is gone with it.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from sampan.engine.building import memory
from sampan.engine.building.agents import AgentProxy
from sampan.errors import InvalidInput, NotFound, doing
from sampan.rootfs.union import directories_at
from sampan.spec.build import PIPES, BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from sampan.spec.runtime import Mount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sampan.engine.core import Core
    from sampan.spec.build import Origin, Run

    Copy = Callable[[Sequence[str], str], None]  # makes a new directory what others show together
    Lowerdirs = Callable[[Origin, str], tuple[str, ...]]  # what shows an origin's files, of which a path is wanted

_READONLY = ("rbind", "rro", "rprivate")
_WRITABLE = ("rbind", "rw", "rprivate")


class RunMounts:
    """One RUN's. In a `with`: what is held for it, or is secret, is let go of at the end."""

    def __init__(self, core: Core, run: Run, directory: str, *, id: str) -> None:
        """`directory` is the step's own; `id` is of its container."""
        self._core = core
        self._run = run
        self._directory = f"{directory}/mounts"
        self._id = id
        self._memory = ""
        self._count = 0
        self._agents = 0
        self._undo = ExitStack()
        self.mounts: list[Mount] = []
        self.env: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def add_files(self) -> None:
        """Show the heredocs' texts."""
        for file in self._run.files:
            path = self._new()
            with open(path, "x", opener=lambda p, flags: os.open(p, flags, 0o600)) as opened:
                opened.write(file.text)
            os.chmod(path, file.mode)
            self.mounts.append(Mount(destination=f"{PIPES}/{file.name}", type="bind", source=path, options=_READONLY))

    def add_tmpfs(self, mount: TmpfsMount) -> None:
        """Mount memory."""
        options = ("nosuid", "nodev", *([f"size={mount.size}"] if mount.size else []))
        self.mounts.append(Mount(destination=mount.target, type="tmpfs", source="tmpfs", options=options))

    def add_bind(self, mount: BindMount, lowerdirs: Lowerdirs) -> None:
        """Mount what shows at a path of other files."""
        with doing(f"can't mount {mount.source} at {mount.target}"):
            shown = _shown(lowerdirs(mount.origin, mount.source), mount.source)
            if os.path.isdir(shown[0]) and not os.path.islink(shown[0]):
                self._show(mount, shown)
            else:
                self._show_file(mount, shown[0])

    def add_cache(self, mount: CacheMount, lowerdirs: Lowerdirs, copy: Copy, wanted: Callable[[], None]) -> None:
        """Mount what is kept from build to build; as long as another RUN has it alone it is waited for.

        `wanted` is called meanwhile, and raises where it need not be any more.
        """

        def fill(path: str) -> None:
            if begin is not None:
                copy(begin, path)
            else:
                os.mkdir(path)
                os.chown(path, mount.uid, mount.gid)
                os.chmod(path, mount.mode)

        with doing(f"can't mount the cache {mount.id} at {mount.target}"):
            origin = mount.origin
            begin = _shown(lowerdirs(origin, mount.source), mount.source) if origin is not None else None
            name = "\n".join(begin) if begin else ""
            data = self._undo.enter_context(self._core.cache_mounts.using(mount, name, fill, wanted))
        options = _READONLY if mount.readonly else _WRITABLE
        self.mounts.append(Mount(destination=mount.target, type="bind", source=data, options=options))

    def add_secret(self, mount: SecretMount, values: Mapping[str, bytes]) -> None:
        """Give a secret, as a file in memory and as a variable; one that is not there is left out unless required."""
        value = values.get(mount.id)
        if value is None:
            if mount.required:
                raise NotFound(f"secret {mount.id}: not found", f"give it with --secret id={mount.id},src=FILE")
            return
        if mount.env:
            self.env.append(f"{mount.env}={_as_text(mount, value)}")
        if mount.target:
            path = self._secret_place()
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(value)
                os.fchown(fd, mount.uid, mount.gid)
                os.fchmod(fd, mount.mode)
            self.mounts.append(Mount(destination=mount.target, type="bind", source=path, options=_READONLY))

    def add_agent(self, mount: SshMount, agents: Mapping[str, str]) -> None:
        """Give an agent's socket."""
        agent = agents.get(mount.id)
        if agent is None:
            if mount.required:
                raise NotFound(f"no SSH key {mount.id!r} forwarded from the client", f"give it with --ssh {mount.id}")
            return
        target = mount.target or f"/run/buildkit/ssh_agent.{self._agents}"
        path = self._secret_place()
        self._undo.enter_context(AgentProxy(path, agent, owner=(mount.uid, mount.gid), mode=mount.mode))
        if not self._agents:
            self.env.append(f"SSH_AUTH_SOCK={target}")
        self._agents += 1
        self.mounts.append(Mount(destination=target, type="bind", source=path, options=_WRITABLE))

    def in_order(self) -> tuple[Mount, ...]:
        """Return them all, outer ones before those in them."""
        return tuple(sorted(self.mounts, key=lambda mount: mount.destination.rstrip("/").count("/")))

    def _show(self, mount: BindMount, layers: tuple[str, ...]) -> None:
        """An overlay needs two directories, or one that is written to."""
        where = self._new()
        os.makedirs(f"{where}/upper")
        options = [f"upperdir={where}/upper", f"workdir={where}/work"]
        if mount.readonly:
            layers, options = (*layers, f"{where}/upper"), []
        else:
            os.mkdir(f"{where}/work", 0o700)
            status = os.stat(layers[0])
            os.chown(f"{where}/upper", status.st_uid, status.st_gid)
            os.chmod(f"{where}/upper", stat.S_IMODE(status.st_mode))
        options += [f"lowerdir+={layer}" for layer in layers]
        self.mounts.append(Mount(destination=mount.target, type="overlay", source="overlay", options=tuple(options)))

    def _show_file(self, mount: BindMount, path: str) -> None:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise InvalidInput("it is neither a directory nor a file")
        if not mount.readonly:
            path = shutil.copy2(path, self._new(), follow_symlinks=False)
        options = _READONLY if mount.readonly else _WRITABLE
        self.mounts.append(Mount(destination=mount.target, type="bind", source=path, options=options))

    def _new(self) -> str:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._count += 1
        return f"{self._directory}/{self._count}"

    def _secret_place(self) -> str:
        if not self._memory:
            self._memory = memory.directory(self._core.dirs, self._id)
            self._undo.callback(memory.remove, self._memory)
        self._count += 1
        return f"{self._memory}/{self._count}"


def _as_text(mount: SecretMount, value: bytes) -> str:
    if b"\0" in value:
        raise InvalidInput(
            f"secret {mount.id} can't be the variable {mount.env}: it has a NUL byte in it", "mount a file"
        )
    return value.decode(errors="surrogateescape")


def _shown(layers: Sequence[str], source: str) -> tuple[str, ...]:
    try:
        return directories_at(layers, source)
    except NotFound as e:
        raise NotFound(e.message, "it is looked for in what the mount's `from` names") from None

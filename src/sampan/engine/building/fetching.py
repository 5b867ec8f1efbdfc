"""What a build gets from elsewhere: contexts that are no directory of this machine, and what ADD names by address.

Each is got once for all steps and platforms, by a worker, when it is first needed: of a repository only which commit
it is at, and of a download with a checksum nothing, as long as the cache has the step.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Self

import msgspec

from sampan.build import jobs, remotes
from sampan.errors import Failed, InvalidInput, SampanError
from sampan.spec.build import ContextKind
from sampan.spec.decoding import decode_json
from sampan.supervise import messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.engine.core import Core
    from sampan.engine.links import Channel
    from sampan.image.compression import Readable
    from sampan.spec.build import Add, ContextSource, Remote

_PIECE = 1 << 18
_FETCH_S = 24 * 3600
_GIVES_UP_S = 10
_AGENT = "default"
INTERRUPTED = "the build was interrupted"


class Fetching:
    """One build's. In a `with`: all of it is removed at the end. Several threads may use it."""

    def __init__(self, core: Core, archive: Readable | None, agents: Mapping[str, str]) -> None:
        """`archive` is the context that comes with the request; `agents` are sockets of SSH agents by their id."""
        self._core = core
        self._archive = archive
        self._agent = agents.get(_AGENT, "")
        self._undo = ExitStack()
        self._lock = threading.Lock()
        self._getting: dict[jobs.Fetch, threading.Lock] = {}
        self._got: dict[jobs.Fetch, jobs.Fetched] = {}
        self._later: dict[str, tuple[jobs.Fetch, Add]] = {}  # by identity
        self._channels: set[Channel] = set()
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def stop(self) -> None:
        """Have whatever is being got fail early, from any thread."""
        with self._lock:
            self._stopped = True
            channels = tuple(self._channels)
        for channel in channels:
            channel.close()

    def context(self, source: ContextSource) -> jobs.Fetched:
        """Return the files of a context; of a URL that gives no archive that one file, which is a Dockerfile."""
        match source.kind:
            case ContextKind.TAR:
                if not source.value and self._archive is None:
                    raise InvalidInput("can't build: the context did not come with the request")
                return self._get(jobs.Fetch(kind="archive", target="", value=source.value))
            case ContextKind.URL:
                return self._get(jobs.Fetch(kind="url", target="", value=source.value, unpack=True))
            case ContextKind.GIT:
                return self._get(jobs.Fetch(kind="git", target="", value=source.value, agent=self._agent))
            case _:
                raise InvalidInput(f"a context of kind {source.kind} has no files of its own")

    def item(self, remote: Remote, add: Add) -> jobs.Item:
        """Return what an ADD takes from elsewhere, known by its identity; it may not be here yet."""
        if remote.kind == "git":
            job = self._git(remote, add)
            identity = self._get(msgspec.structs.replace(job, resolve=True)).identity
        else:
            job = jobs.Fetch(kind="url", target="", value=remote.value, checksum=add.checksum)
            identity = remotes.url_identity(remote.value, add.checksum) if add.checksum else self._get(job).identity
        with self._lock:
            self._later[identity] = job, add
        return jobs.Item(identity=identity)

    def whole(self, items: tuple[jobs.Item, ...]) -> tuple[jobs.Item, ...]:
        """Return a step's items with all their files here."""
        return tuple(self._whole(item) if item.identity else item for item in items)

    def _whole(self, item: jobs.Item) -> jobs.Item:
        with self._lock:
            job, add = self._later[item.identity]
        fetched = self._get(job)
        return jobs.Item(
            place=jobs.Place(directory=fetched.directory, name=remotes.shown(job.value)),
            sources=(fetched.name or "/",),
            literal=True,
            unpack=bool(fetched.name) and add.unpack is True,
            exclude=add.exclude,
            identity=item.identity,
        )

    def _git(self, remote: Remote, add: Add) -> jobs.Fetch:
        return jobs.Fetch(
            kind="git",
            target="",
            value=remote.value,
            checksum=add.checksum,
            keep_git_dir=add.keep_git_dir,
            agent=self._agent,
        )

    def _get(self, job: jobs.Fetch) -> jobs.Fetched:
        with self._lock:
            getting = self._getting.setdefault(job, threading.Lock())
        with getting:
            if job not in self._got:
                self._got[job] = self._fetch(job)
            return self._got[job]

    def _fetch(self, job: jobs.Fetch) -> jobs.Fetched:
        with self._lock:
            target = self._undo.enter_context(self._core.images.layers.scratch())
        feeds = job.kind == "archive" and not job.value  # its worker ends by itself when no more comes
        with self._lock:
            if self._stopped:
                raise Failed(f"can't build: {INTERRUPTED}")
            channel = self._core.worker()
            if not feeds:
                self._channels.add(channel)
        try:
            message = messages.FetchFiles(job=msgspec.json.encode(msgspec.structs.replace(job, target=target)))
            if feeds:
                answer = self._feed(channel, message)
            else:
                answer = channel.ask(message, messages.FilesFetched, timeout_s=_FETCH_S)
        except SampanError as e:
            if self._stopped:
                raise Failed(f"can't build: {INTERRUPTED}") from e
            raise
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
        return decode_json(answer.fetched, jobs.Fetched)

    def _feed(self, channel: Channel, message: messages.FetchFiles) -> messages.FilesFetched:
        """Send the archive of the request to a worker as it comes."""
        assert self._archive is not None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with ExitStack() as undo:
            with open(writing, "wb", buffering=0) as pipe:
                try:
                    pending = channel.post(message, (reading,))
                finally:
                    os.close(reading)
                # What a client left half sent the worker has to be done with before its directory is removed.
                undo.callback(pending.wait_quietly, _GIVES_UP_S)
                self._pass_on(self._archive, pipe)
            undo.pop_all()
        return pending.wait(messages.FilesFetched, _FETCH_S)

    def _pass_on(self, archive: Readable, pipe: IO[bytes]) -> None:
        try:
            while piece := archive.read(_PIECE):
                if self._stopped:
                    raise Failed(f"can't build: {INTERRUPTED}")
                rest = memoryview(piece)
                while rest:
                    rest = rest[pipe.write(rest) :]
        except BrokenPipeError:  # the worker has given up, and says why
            pass

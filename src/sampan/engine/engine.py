"""The verbs, top to bottom: what `sampan run` is made of, and what the API calls.

`create` and `start` are the story of a container's birth; the modules they name tell each chapter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sampan import ids
from sampan.engine import (
    archiving,
    attaching,
    auditing,
    changing,
    committing,
    creating,
    doctor,
    execs,
    explaining,
    exporting,
    health,
    health_update,
    image_inspecting,
    image_listing,
    imaging,
    inspecting,
    keeper,
    launch,
    lending,
    linking,
    listing,
    logs,
    mapping,
    networks,
    opening,
    pulling,
    removing,
    republishing,
    resetting,
    stopping,
    system,
    top,
    updating,
    volume_verbs,
    waiting,
    why,
)
from sampan.engine.building.building import Building
from sampan.engine.building.leaving import Outputs
from sampan.engine.moving import Moving
from sampan.engine.pruning import Prunes
from sampan.engine.secret_verbs import SecretVerbs
from sampan.engine.stats import Samples
from sampan.errors import doing
from sampan.spec.pulling import AS_CONFIGURED
from sampan.units import parse_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from sampan.dirs import Dirs
    from sampan.engine.core import Core
    from sampan.engine.events import Listener
    from sampan.engine.imaging import Report
    from sampan.engine.registry import Container
    from sampan.engine.requests import (
        AttachQuery,
        CommitQuery,
        EventsQuery,
        Filters,
        ImagesQuery,
        LogsQuery,
        LogStream,
        MapQuery,
        Session,
    )
    from sampan.engine.tasks import Task
    from sampan.image.compression import Readable
    from sampan.spec import docker
    from sampan.spec.build import BuildRequest
    from sampan.spec.docker.audit import NetworkAudit
    from sampan.spec.docker.doctor import Finding
    from sampan.spec.docker.why import Why
    from sampan.spec.ending import Sender
    from sampan.spec.pulling import Retries
    from sampan.supervise.messages import PathFound

_IDLE_S = 600.0
List = list  # the class has a verb of that name


class Engine:
    """One instance's engine. Every method may be called from any thread, blocks until it is done, raises SampanError.

    `ref` is a container's id, an id's unambiguous beginning, or its name (with or without "/").
    """

    def __init__(self, core: Core, idle_s: float = _IDLE_S) -> None:
        self._core = core
        self._idle = keeper.Idle(core, idle_s)

    @classmethod
    def open(
        cls, dirs: Dirs, keeper_fd: int | None, listen_fd: int | None = None, host_fd: int | None = None
    ) -> Engine:
        """Open the state, probe the host, talk to the keeper, repair what a crash left, reconnect the shims."""
        idle_s = os.environ.get("SAMPAN_IDLE_S", "")
        core = opening.open_core(dirs, keeper_fd, listen_fd, host_fd)
        return cls(core, float(idle_s) if idle_s.replace(".", "", 1).isdigit() else _IDLE_S)

    def close(self) -> None:
        """Let go of everything; containers run on."""
        opening.close_core(self._core)

    def _find(self, ref: str) -> Container:
        return self._core.registry.find(ref)

    # ------------------------------------------------------------------------------------------------ containers

    def create(
        self, name: str | None, body: docker.ContainerCreate, platform: str | None = None
    ) -> docker.ContainerCreateResponse:
        """Resolve the image, complete and check the request, prepare the files, write the intent down."""
        return creating.create(self._core, name, body, platform)

    def start(self, ref: str, *, detach_keys: str | None = None, lent: str = "") -> bool:
        """Start a created or stopped container. False: it was running already (HTTP 304). `lent`: what `lend` tells."""
        with lending.taken(self._core, lent) as taken:
            return launch.start(self._core, self._find(ref), detach_keys, taken)

    def lend(self, count: int, names: str | None = None) -> Session:
        """Return what the connection of a client is handed to that has so many open files for a program.

        With `names`, which may be "", they are sockets that systemd listens at.
        """
        return lending.Lender(self._core, count, names)

    def wait(
        self,
        ref: str,
        condition: str = "not-running",
        begun: Callable[[Callable[[], None]], None] | None = None,
    ) -> docker.ContainerWaitResponse:
        """Block until "not-running", "next-exit" or "removed".

        `begun` is called once the wait is registered, with a function that ends it early, from any thread.
        """
        return waiting.wait(self._core, ref, condition, begun)

    def remove(
        self,
        ref: str,
        *,
        force: bool = False,
        volumes: bool = False,
        by: Sender | None = None,
    ) -> None:
        """Remove a container, with `volumes` its anonymous volumes too."""
        removing.remove(self._core, self._find(ref), force=force, volumes=volumes, by=by)

    def unlink(self, ref: str) -> None:
        """Take away a name that a container has for another one: "container/alias"."""
        linking.unlink(self._core, ref)

    def stop(self, ref: str, timeout_s: int | None = None, signal: str | None = None, by: Sender | None = None) -> bool:
        """False: it was not running (HTTP 304). `timeout_s` -1 waits for ever; None: the container's own, else 10."""
        return stopping.stop(self._core, self._find(ref), timeout_s, signal, by)

    def kill(self, ref: str, signal: str | None = None, by: Sender | None = None) -> None:
        """Send a signal to the container's first process. `by` is recorded with the end that may come of it."""
        if signal:
            parse_signal(signal)  # what is none is said without the container
        with doing(f"cannot kill container: {ref}"):
            stopping.kill(self._core, self._find(ref), signal, by)

    def restart(
        self, ref: str, timeout_s: int | None = None, signal: str | None = None, by: Sender | None = None
    ) -> None:
        """Stop it if it runs, start it."""
        stopping.restart(self._core, self._find(ref), timeout_s, signal, by)

    def pause(self, ref: str) -> None:
        """Freeze every process."""
        stopping.pause(self._core, self._find(ref))

    def unpause(self, ref: str) -> None:
        """Let it run again."""
        stopping.unpause(self._core, self._find(ref))

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        container = self._find(ref)
        with doing("Error when allocating new name"):
            bare = ids.check_name(f"/{name.removeprefix('/')}")
        removing.rename(self._core, container, bare)

    def update(self, ref: str, body: docker.ContainerUpdate) -> docker.ContainerUpdateResponse:
        """Change its limits and its restart policy, at once if it runs; it stays so at its next starts."""
        return updating.update(self._core, self._find(ref), body)

    def update_ports(self, ref: str, body: docker.PortsUpdate) -> docker.PortsUpdateResponse:
        """Change which ports a container publishes, at once if it runs; it stays so at its next starts."""
        return republishing.update(self._core, self._find(ref), body)

    def update_health(self, ref: str, body: docker.HealthUpdate) -> docker.ContainerUpdateResponse:
        """Change how its health is checked, at once if it runs; it stays so at its next starts."""
        return health_update.update(self._core, self._find(ref), body)

    def check_health(self, ref: str) -> docker.Health:
        """Run a container's health check now; return its health, with that run as the latest."""
        return inspecting.health_of(health.look_now(self._core, self._find(ref)))

    def list(
        self, *, all: bool = False, limit: int = 0, size: bool = False, filters: Filters | None = None
    ) -> List[docker.ContainerSummary]:
        """Return the containers, newest first: the running ones, or `all`."""
        return listing.containers(self._core, all=all, limit=limit, size=size, filters=filters or {})

    def inspect(self, ref: str, *, size: bool = False) -> docker.ContainerInspectResponse:
        """Return everything about a container."""
        return inspecting.inspect(self._core, self._find(ref), size=size)

    def why(self, ref: str) -> Why:
        """Return what ended a container, or ails it, and what helps."""
        return why.why(self._core, ref)

    def changes(self, ref: str) -> Iterator[bytes]:
        """Return what the container has changed in its image's files: the text of a JSON array, in pieces."""
        return changing.changes(self._core, self._find(ref))

    def commit(self, ref: str, query: CommitQuery, config: docker.ContainerConfig | None = None) -> str:
        """Make an image of what the container is now; return its id. `config` is completed by the container's own."""
        return committing.commit(self._core, self._find(ref), query, config)

    def stat_path(self, ref: str, path: str) -> PathFound:
        """Tell what a path in a container is, following no link at its end."""
        return archiving.stat_path(self._core, self._find(ref), path)

    def read_path(self, ref: str, path: str) -> Generator[bytes]:
        """Return a file or directory of a container as a tar, in pieces; to be closed."""
        return archiving.read_path(self._core, self._find(ref), path)

    def write_path(self, ref: str, path: str, stream: Readable, *, keep_kinds: bool, as_user: bool) -> None:
        """Unpack an archive into a directory of a container; with `keep_kinds` no directory becomes a file."""
        archiving.write_path(self._core, self._find(ref), path, stream, keep_kinds=keep_kinds, as_user=as_user)

    def export(self, ref: str) -> Generator[bytes]:
        """Return all the container's files as a tar, in pieces; to be closed."""
        return exporting.export(self._core, self._find(ref))

    def top(self, ref: str, ps_args: str | None = None) -> docker.ContainerTopResponse:
        """Return the processes of a container."""
        return top.top(self._core, self._find(ref), ps_args)

    def samples(self, refs: Sequence[str], *, all: bool = False) -> Samples:
        """Return what measures containers, each second: those named, else those that run, or `all`."""
        return Samples(self._core, refs, all=all)

    def logs(self, ref: str, query: LogsQuery) -> LogStream:
        """Return the log, to be iterated over."""
        return logs.read_logs(self._core, self._find(ref), query)

    def attach(self, ref: str, query: AttachQuery) -> Session:
        """Return what a client's connection is handed to."""
        return attaching.AttachSession(self._core, self._find(ref), query)

    def resize(self, ref: str, rows: int, columns: int) -> None:
        """Set the size of the container's terminal."""
        stopping.resize(self._core, self._find(ref), rows, columns)

    # ------------------------------------------------------------------------------------------------ exec

    def exec_create(self, ref: str, body: docker.ExecConfig) -> str:
        """Note another process to be run in a container; return the exec's id."""
        return execs.create(self._core, self._find(ref), body)

    def exec_start(self, exec_id: str, body: docker.ExecStartConfig, lent: str = "") -> Session | None:
        """With `body.detach` start it and return None; else return the session to hand the client's connection to."""
        return execs.start(self._core, exec_id, body, lent)

    def exec_inspect(self, exec_id: str) -> docker.ExecInspectResponse:
        """Return how an exec is doing, or did."""
        return execs.inspect(self._core, exec_id)

    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal."""
        execs.resize(self._core, exec_id, rows, columns)

    # ------------------------------------------------------------------------------------------------ explain

    def explain(self, ref: str) -> dict[str, Any]:
        """Return the steps of a container's start, which need not happen, and a script that does them by hand."""
        return explaining.explain(self._core, self._find(ref))

    def start_explained(self, ref: str) -> Iterator[dict[str, Any]]:
        """Start it up to its program's execution, give each step with the time it took, then execute."""
        return explaining.start_explained(self._core, self._find(ref))

    def explain_exec(self, exec_id: str) -> dict[str, Any]:
        """Return the steps of an exec's start."""
        return explaining.explain_exec(self._core, exec_id)

    # ------------------------------------------------------------------------------------------------ images

    def pull(
        self,
        name: str,
        *,
        platform: str | None = None,
        auth: str = "",
        policy: str = "always",
        retries: Retries = AS_CONFIGURED,
    ) -> Task:
        """Bring an image, or with a bare repository's name all its tags'. `auth`: the X-Registry-Auth header."""
        return pulling.pull(self._core, name, platform=platform, auth=auth, policy=policy, retries=retries)

    def moving(self, retries: Retries = AS_CONFIGURED) -> Moving:
        """Return the verbs that move images, for one call, in a `with`."""
        return Moving(self._core, retries)

    def building(self) -> Building:
        """Return the verb that builds, for one call, in a `with`."""
        return Building(self._core)

    def outputs(self, request: BuildRequest) -> Outputs:
        """Return the outputs of a build that are files, in a `with` around it."""
        return Outputs(self._core, request)

    def load(self, stream: Readable, *, platform: str | None = None, progress: Report) -> List[str]:
        """Take in an archive of images; return the lines that Docker prints."""
        return imaging.load(self._core, stream, platform=platform, progress=progress)

    def import_image(
        self,
        stream: Readable | str,
        reference: str,
        *,
        changes: tuple[str, ...] = (),
        message: str = "",
        platform: str | None = None,
    ) -> str:
        """Make an image of a root filesystem's tar, or of a directory given by its path. Return the image's id."""
        return imaging.import_image(self._core, stream, reference, changes=changes, message=message, platform=platform)

    def tag(self, name: str, repository: str, tag: str | None) -> None:
        """Give an image another name."""
        imaging.tag(self._core, name, repository, tag)

    def remove_image(
        self, name: str, *, force: bool = False, no_prune: bool = False, platform: str | None = None
    ) -> List[docker.ImageDeleteResponseItem]:
        """Untag an image, and remove what nothing names any more. One that is not for `platform` is not found."""
        if platform is not None:
            self._core.images.resolve(name, platform)
        removed = imaging.remove(self._core, name, force=force, no_prune=no_prune)
        return [imaging.response_item(one) for one in removed]

    def list_images(self, query: ImagesQuery) -> List[docker.ImageSummary]:
        """Return the images, newest first."""
        return image_listing.images(self._core, query)

    def image_tree(self, query: ImagesQuery, name: str = "") -> List[docker.ImageTree]:
        """Return images with their layers and containers: those of the query, or the one of that name."""
        return image_listing.tree(self._core, query, name)

    def image_map(self, name: str, query: MapQuery) -> docker.ImageMap:
        """Return where an image's bytes are, and which are wasted."""
        return mapping.image_map(self._core, name, query)

    def untag(self, name: str, names: tuple[str, ...]) -> List[docker.ImageDeleteResponseItem]:
        """Take names of an image away, all if none is given. The image stays."""
        return imaging.untag(self._core, name, names)

    def inspect_image(self, name: str, *, platform: str | None = None, manifests: bool = False) -> docker.ImageInspect:
        """Return everything about an image. One that is not for `platform` is not found."""
        return image_inspecting.inspect(self._core, name, platform=platform, manifests=manifests)

    def history(self, name: str, platform: str | None = None) -> List[docker.ImageHistoryResponseItem]:
        """Return how an image was made."""
        return image_inspecting.history(self._core, name, platform)

    # ------------------------------------------------------------------------------------------------ networks

    def create_network(self, body: docker.NetworkCreate) -> docker.NetworkCreateResponse:
        """Make a network of a name that none has yet; its addresses are chosen where `body` doesn't."""
        return networks.create(self._core, body)

    def inspect_network(self, ref: str) -> docker.Network:
        """Return everything about a network, with the running containers on it."""
        return networks.inspect(self._core, ref)

    def list_networks(self, filters: Filters | None = None) -> List[docker.Network]:
        """Return the networks, without their containers."""
        return networks.listing(self._core, filters or {})

    def examine_host(self) -> tuple[Finding, ...]:
        """Return what this host has of what containers need, and what is missing."""
        return doctor.examine(self._core)

    def reset(self) -> None:
        """Remove every container, image, network, volume, secret and all that builds keep, whatever runs."""
        resetting.reset(self._core)

    def network_audit(self) -> NetworkAudit:
        """Return who reaches the published ports of running containers, and by which rule."""
        return auditing.network_audit(self._core)

    def remove_network(self, ref: str) -> None:
        """Remove a network that no running container is on."""
        networks.remove(self._core, ref)

    def connect_network(self, ref: str, body: docker.NetworkConnect) -> None:
        """Put a container on one more network, at once if it runs."""
        networks.connect(self._core, ref, body)

    def disconnect_network(self, ref: str, body: docker.NetworkDisconnect) -> None:
        """Take a container off a network, at once if it runs."""
        networks.disconnect(self._core, ref, body)

    # ------------------------------------------------------------------------------------------------ volumes

    def create_volume(self, body: docker.VolumeCreate) -> docker.Volume:
        """Make a volume, or return the one that has this name already."""
        return volume_verbs.create(self._core, body)

    def inspect_volume(self, name: str) -> docker.Volume:
        """Return everything about a volume."""
        return volume_verbs.inspect(self._core, name)

    def list_volumes(self, filters: Filters | None = None) -> docker.VolumeListResponse:
        """Return the volumes by name."""
        return volume_verbs.listing(self._core, filters or {})

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container uses."""
        volume_verbs.remove(self._core, name, force=force)

    @property
    def secrets(self) -> SecretVerbs:
        """The verbs of secrets."""
        return SecretVerbs(self._core)

    @property
    def prunes(self) -> Prunes:
        """The verbs that remove what nothing uses."""
        return Prunes(self._core)

    # ------------------------------------------------------------------------------------------------ system

    def info(self) -> docker.SystemInfo:
        """Return what `sampan info` shows."""
        return system.info(self._core)

    def version(self) -> docker.SystemVersion:
        """Return the server's version."""
        return system.version(self._core)

    def disk_usage(self, kinds: frozenset[str] = system.KINDS) -> docker.DiskUsage:
        """Return what takes how much room, of these kinds of objects."""
        return system.disk_usage(self._core, kinds)

    def events(self, query: EventsQuery) -> Listener:
        """Return past and coming events, to be iterated over; `close` from any thread ends it."""
        return self._core.bus.listen(query)

    # ------------------------------------------------------------------------------------------------ the server's life

    def connection_opened(self, user_agent: str) -> None:
        """The API tells of every connection at its first request: who calls decides how the instance rests idle."""
        self._idle.connected(user_agent)

    def connection_closed(self) -> None:
        """A connection has ended."""
        self._idle.disconnected()

    def on_idle(self, leave: Callable[[], None]) -> None:
        """`leave` is called, once, when the server should stop listening and exit: the keeper has been told."""
        self._idle.begin(leave)

    def stop_server(self) -> None:
        """End server and keeper, from the user's own wish; the next command starts them again. Containers run on."""
        self._idle.end(hold=False)

    def restart_server(self) -> None:
        """A newer client calls: the keeper will execute a new server when this one ends."""
        keeper.restart_server(self._core)

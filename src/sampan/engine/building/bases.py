"""The images that stages begin from: those that are here, and others pulled from their registries."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from sampan.engine import pulling
from sampan.engine.registries import given_auth
from sampan.engine.unpacking import Unpacker
from sampan.errors import NotFound, SampanError, doing
from sampan.image import incoming, transfer
from sampan.image.layout import Layout
from sampan.spec.build import Transfer
from sampan.spec.pulling import Policy
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sampan.engine.building.telling import Telling
    from sampan.engine.core import Core
    from sampan.engine.tasks import Task
    from sampan.image.layers import Pins
    from sampan.spec.distribution import AuthConfig as Credentials, Platform
    from sampan.spec.docker.image import AuthConfig
    from sampan.spec.image import Image

_DOCKER_HUB = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")


class Bases:
    """Finds images for one build; each is asked for at its registry once, whoever wants it."""

    def __init__(
        self,
        core: Core,
        pins: Pins,
        auths: Mapping[str, AuthConfig],
        telling: Telling,
        *,
        pull: bool,
        nearest: Callable[[str], str],
    ) -> None:
        """`nearest` tells which stage may be meant by a name that no image has."""
        self._core = core
        self._nearest = nearest
        self._telling = telling
        self._pins = pins
        self._auths = auths
        self._pull = pull
        self._lock = threading.Lock()
        self._finding: dict[tuple[str, str], threading.Lock] = {}
        self._found: dict[tuple[str, str], Image] = {}
        self._tasks: set[Task] = set()
        self._stopped = False

    def find(self, name: str, platform: Platform | None, step: int = 0) -> Image:
        """Return the image of a name, for a platform if one was asked for. Its layers stay until the build ends.

        What is pulled is told of as of `step`.
        """
        wanted = str(platform) if platform else ""
        with self._lock:
            finding = self._finding.setdefault((name, wanted), threading.Lock())
        with finding:
            if (name, wanted) not in self._found:
                self._found[name, wanted] = self._find(name, wanted, step)
            return self._found[name, wanted]

    def of_layout(self, value: str, platform: Platform | None) -> Image:
        """Return an image of a layout of this machine, `path[:name][@digest]`, taken into the store."""
        path, _, digest = value.partition("@")
        path, colon, name = path.rpartition(":")
        if not colon or "/" in name:
            path, name = path + colon + name, ""
        with doing(f"can't read oci-layout://{value}"), Unpacker(self._core) as unpacker:
            layout = Layout.opened(path, "" if digest else name)
            document = transfer.chosen(layout, layout.document(digest or None), platform)
            image = incoming.take(
                self._core.images,
                layout,
                document,
                tags=(),
                unpack=unpacker,
                resume=unpacker.resume,
                progress=lambda _: None,
            )
        for diff_id in image.diff_ids:
            self._pins.add(diff_id)
        return image

    def stop(self) -> None:
        """Let what is being pulled fail early, from any thread."""
        with self._lock:
            self._stopped = True
            tasks = tuple(self._tasks)
        for task in tasks:
            task.close()

    def _find(self, name: str, platform: str, step: int) -> Image:
        image = self._here(name, platform)
        if image is None or (self._pull and not image.host and not _is_id(self._core, name)):
            try:
                self._fetch(name, platform, step)
            except SampanError as e:
                if near := self._nearest(name):
                    raise type(e)(f"{e.message}{near}", e.hint) from e
                raise
            image = self._core.images.resolve(name, platform or None)
        for diff_id in image.diff_ids:
            self._pins.add(diff_id)
        self._core.images.used(image.id)
        return image

    def _here(self, name: str, platform: str) -> Image | None:
        try:
            return self._core.images.resolve(name, platform or None)
        except NotFound:
            return None

    def _fetch(self, name: str, platform: str, step: int) -> None:
        reference = self._core.reference(name)
        auth = _header(self._auths, reference)
        task = pulling.pull(self._core, str(reference), platform=platform or None, auth=auth, policy=Policy.ALWAYS)
        with self._lock:
            self._tasks.add(task)
            if self._stopped:
                task.close()
        with closing(task):
            for event in task:
                if event.id is not None:
                    self._telling.tell(
                        Transfer(
                            step=step,
                            what=event.id,
                            current=event.current or 0,
                            total=event.total or 0,
                            status=event.status,
                        )
                    )
        with self._lock:
            self._tasks.discard(task)


def _is_id(core: Core, name: str) -> bool:
    """Tell whether a name is an image's id, or the beginning of it, for which no registry can be asked."""
    image = core.images.resolve(name)
    bare = name.removeprefix("sha256:")
    return image.id.removeprefix("sha256:").startswith(bare) and Reference.parse(name).familiar() not in image.repo_tags


def auth_of(auths: Mapping[str, AuthConfig], reference: Reference) -> Credentials | None:
    """Return the credentials of a request for a reference's registry, None where it has none."""
    return given_auth(_header(auths, reference))


def _header(auths: Mapping[str, AuthConfig], reference: Reference) -> str:
    """Return the credentials for a reference's registry as X-Registry-Auth; "" where none are given."""
    import base64

    names: tuple[str, ...] = (reference.registry, f"https://{reference.registry}", f"https://{reference.registry}/v1/")
    if reference.registry == "docker.io":
        names += _DOCKER_HUB
    found = next((auths[name] for name in names if name in auths), None)
    return "" if found is None else base64.urlsafe_b64encode(msgspec.json.encode(found)).decode()

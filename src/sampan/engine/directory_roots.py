"""Containers that run from a directory of the host in an image's place: `--rootfs DIR[:O]`, as Podman has it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.errors import InvalidInput
from sampan.spec.annotations import ROOTFS
from sampan.spec.distribution import Platform
from sampan.spec.image import ExecutionConfig, Image, ImageConfig, RootFS

if TYPE_CHECKING:
    from sampan.spec.docker import ContainerCreate


class DirectoryRoot(NamedTuple):
    """The directory, and whether it is only read: what the container writes is then kept with the container."""

    path: str
    overlaid: bool


def wanted(body: ContainerCreate) -> DirectoryRoot | None:
    """Return what a request asks for; None where it names an image. Raises InvalidInput in Podman's words."""
    text = (body.host_config.annotations or {}).get(ROOTFS)
    if text is None:
        return None
    if body.image:
        raise InvalidInput(f"conflicting options: the image {body.image} and the directory {text}")
    path = text.removesuffix(":O")
    if not path.startswith("/"):
        raise InvalidInput(f"invalid rootfs {text!r}: it is no absolute path")
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        cause = "not a directory" if os.path.lexists(real) else "no such file or directory"
        raise InvalidInput(f"running container create option: stat {path}: {cause}")
    if real == "/" and text == path:
        raise InvalidInput(
            "can't run from / itself: the container would change this machine",
            "run from /:O, which is only read, or from the image host, which shows no secrets either",
        )
    return DirectoryRoot(real, overlaid=text != path)


def image(machine: str) -> Image:
    """Return what stands for the image of such a container, which has none; `machine` is uname's."""
    config = image_config(machine)
    return Image(id="", config=config, raw_config=msgspec.json.encode(config))


def image_config(machine: str) -> ImageConfig:
    """Return the configuration of an image that says nothing."""
    platform = Platform.of_machine(machine)
    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        config=ExecutionConfig(),
        rootfs=RootFS(diff_ids=()),
    )

"""The lists of images, and their filters."""

from __future__ import annotations

import pytest

from sampan.engine.core import Core
from sampan.engine.image_listing import images, matches_any
from sampan.engine.registry import Registry
from sampan.engine.requests import ImagesQuery
from sampan.spec.image import Image, ImageConfig

DIGEST = "sha256:" + "1" * 64


class _Images:
    """One image with names in three repositories, and one without any."""

    named = Image(
        id="sha256:a",
        config=ImageConfig(),
        raw_config=b"",
        repo_tags=("busybox:latest", "mine/box:7", "mine/box:8", "127.0.0.1:5000/box:7"),
        repo_digests=(f"busybox@{DIGEST}",),
    )
    nameless = Image(id="sha256:b", config=ImageConfig(), raw_config=b"")

    def list(self, all: bool) -> tuple[Image, ...]:
        return (self.named, self.nameless)


@pytest.fixture
def core() -> Core:
    found = Core()
    found.registry = Registry()
    found.images = _Images()  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("mine/box",), {"mine/box:7", "mine/box:8"}),
        (("mine/*",), {"mine/box:7", "mine/box:8"}),
        (("mine/box:7",), {"mine/box:7"}),
        (("*/*:7",), {"mine/box:7", "127.0.0.1:5000/box:7"}),
        (("busybox",), {"busybox:latest", f"busybox@{DIGEST}"}),
        (("*box",), {"busybox:latest", f"busybox@{DIGEST}"}),
        (("busybo[w-z]:l?test", "mine/box:[^7]"), {"busybox:latest", "mine/box:8"}),
        (("box",), set()),
    ],
)
def test_a_reference_filter_leaves_the_names_that_match(core: Core, patterns: tuple[str, ...], names: set[str]) -> None:
    found = images(core, ImagesQuery(filters={"reference": patterns}))

    assert {name for image in found for name in (*(image.repo_tags or ()), *(image.repo_digests or ()))} == names
    assert all(image.id == "sha256:a" for image in found)


def test_without_a_filter_all_names_are_there(core: Core) -> None:
    assert {image.id: image.repo_tags for image in images(core, ImagesQuery())} == {
        "sha256:a": _Images.named.repo_tags,
        "sha256:b": (),
    }


def test_a_star_stops_at_a_slash() -> None:
    assert not matches_any(["*"], "mine/box:7")
    assert matches_any(["*"], "box:7")

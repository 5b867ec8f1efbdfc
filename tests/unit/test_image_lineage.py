"""Which image another was made from, as their layers and histories tell."""

import pytest

from sampan.image.lineage import intermediate, orphans, parents
from sampan.spec.image import HistoryEntry, Image, ImageConfig, RootFS

FROM, RUN, CMD = (HistoryEntry(created_by=text) for text in ("FROM", "RUN", "other RUN"))
LABEL = HistoryEntry(created_by="LABEL", empty_layer=True)


def image(id, layers, *history, tags=("x:1",), manifest=None):
    config = ImageConfig(rootfs=RootFS(diff_ids=tuple(layers)), history=history)
    return Image(id=id, config=config, raw_config=b"", diff_ids=tuple(layers), repo_tags=tags, manifest_digest=manifest)


BASE = image("base", "a", FROM)


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        (image("child", "ab", FROM, RUN), {"child": "base"}),
        (image("child", "a", FROM, LABEL), {"child": "base"}),
        (image("child", "ab", FROM, LABEL, RUN), {"child": "base"}),
        (image("child", "ab", FROM, RUN, manifest="sha256:1"), {}),
        (image("child", "ab", CMD, RUN), {}),
        (image("child", "cb", FROM, RUN), {}),
        (image("child", "ab", FROM), {}),
        (image("child", "ab"), {}),
    ],
    ids=["layer", "label", "both", "pulled", "other history", "other layer", "history too short", "no history"],
)
def test_a_parent_is_what_layers_and_history_begin_with(child, expected):
    assert parents([BASE, child]) == expected


def test_the_nearest_is_the_parent():
    middle, top = image("middle", "ab", FROM, RUN), image("top", "abc", FROM, RUN, CMD)

    assert parents([top, BASE, middle]) == {"middle": "base", "top": "middle"}


def test_a_nameless_parent_is_intermediate():
    base, middle = image("base", "a", FROM, tags=()), image("middle", "ab", FROM, RUN, tags=())

    assert intermediate([base, middle], {"middle": "base"}) == {"base"}
    assert intermediate([BASE, middle], {"middle": "base"}) == set()


def test_with_an_image_go_the_parents_that_nothing_else_keeps():
    chain = {"top": "middle", "middle": "base", "other": "base"}

    assert orphans("top", chain, lambda _: False) == ["middle"]
    assert orphans("top", {"top": "middle", "middle": "base"}, lambda _: False) == ["middle", "base"]
    assert orphans("top", {"top": "middle", "middle": "base"}, lambda one: one == "base") == ["middle"]
    assert orphans("top", {"top": "middle", "middle": "base"}, lambda one: one == "middle") == []

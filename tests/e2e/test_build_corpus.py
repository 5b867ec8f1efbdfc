"""Each Dockerfile of tests/corpus gives the image that the real builder made of it when `make goldens` recorded it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan import Client
from support.built import Image, read_archive
from support.corpus import RECORDED, Case, bases, cases, serving
from support.sampan import Sampan

CASES = cases()
GOLDENS: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())["cases"]
MADE, REFUSED = ([case for case in CASES if (case.one("fails") is None) == made] for made in (True, False))


class Builder:
    """sampan with the images that the cases are built on."""

    def __init__(self, sampan: Sampan, client: Client, directory: Path) -> None:
        self.sampan, self._client = sampan, client
        sampan("load", "-i", bases(directory))
        self.base = self.saved("base")

    def command(self, case: Case, directory: Path) -> tuple[list[str], dict[str, Any]]:
        case.lay(directory)
        words = ["build", "-t", "made", "--network", "none", "--progress", "plain", *case.arguments]
        return words, {"cwd": directory, "env": case.environment}

    def saved(self, name: str) -> Image:
        return read_archive(io.BytesIO(b"".join(self._client.images.save(name))))


@pytest.fixture(scope="module")
def builder(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    directory = tmp_path_factory.mktemp("corpus")
    with serving(directory / "served"), Client(str(shared.root)) as client:
        yield Builder(shared, client, directory)


def test_each_case_was_recorded_as_it_is() -> None:
    assert {case.id: case.digest for case in CASES} == {id: golden["of"] for id, golden in GOLDENS.items()}
    assert len(MADE) >= 150


@pytest.mark.parametrize("case", MADE, ids=lambda case: case.id)
def test_the_image_is_the_real_builders(builder: Builder, case: Case, tmp_path: Path) -> None:
    words, how = builder.command(case, tmp_path)

    builder.sampan(*words, **how)

    assert differences(case, builder.saved("made").told(builder.base)) == []


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_a_bad_one_is_refused_in_one_message_as_by_the_real_builder(
    builder: Builder, case: Case, tmp_path: Path
) -> None:
    words, how = builder.command(case, tmp_path)

    said = builder.sampan.fails(1, *words, **how)

    assert (case.one("says") or case.one("fails")) in said.err, GOLDENS[case.id]["error"]
    assert builder.sampan("ps", "-aq").out == ""


def test_nothing_is_left_of_all_these_builds(builder: Builder) -> None:
    assert builder.sampan.leftovers() == []
    assert sorted(
        builder.sampan("images", "--format", "{{.Repository}}", "-f", "dangling=false", "-f", "readonly=false").lines
    ) == (["base", "busybox", "full", "made", "triggers"])


def differences(case: Case, ours: dict[str, Any]) -> list[str]:
    """Return a line for each thing that is not as recorded, but for what the case says is ours."""
    golden = GOLDENS[case.id]
    intended = dict(map(_intended, case.all("ours")))
    found = []
    for part in ("config", "files"):
        for name in sorted(golden[part].keys() | ours[part].keys()):
            recorded = intended.get((part, name), golden[part].get(name)) or None
            if recorded != ours[part].get(name):
                found.append(f"{part} {name}: {recorded!r}, ours {ours[part].get(name)!r}")
    history = intended.get(("history", ""), golden.get("history", ours["history"]))
    return found + ([f"history: {history}, ours {ours['history']}"] if history != ours["history"] else [])


def _intended(value: str) -> tuple[tuple[str, str], Any]:
    part, _, rest = value.partition(" ")
    if part == "history":
        return (part, ""), json.loads(rest)
    name, _, text = rest.partition(" ")
    return (part, name), json.loads(text) if part == "config" else text

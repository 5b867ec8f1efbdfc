"""Each Dockerfile of tests/corpus gives the image that the real builder made of it when `make goldens` recorded it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sampan import Client
from support.built import Image, read_archive
from support.corpus import RECORDED, Case, bases, cases, serving
from support.sampan import Result, Sampan

CASES = cases()
GOLDENS: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text())["cases"]
MADE, REFUSED = ([case for case in CASES if (case.one("fails") is None) == made] for made in (True, False))


class Outcome(NamedTuple):
    """What a build said, and what it made unless it failed."""

    said: Result
    image: dict[str, Any] | None


class Builder:
    """sampan with the images that the cases are built on."""

    def __init__(self, sampan: Sampan, client: Client, directory: Path) -> None:
        self.sampan, self._client, self._directory = sampan, client, directory
        sampan("load", "-i", bases(directory))
        self._base = self._saved("base")

    def __call__(self, number: int, case: Case) -> Outcome:
        directory = self._directory / str(number)
        case.lay(directory)
        words = ["build", "-t", f"made:{number}", "--network", "none", "--progress", "plain", *case.arguments]
        said = self.sampan(*words, cwd=directory, env=case.environment, check=False)
        return Outcome(said, None if said.code else self._saved(f"made:{number}").told(self._base))

    def _saved(self, name: str) -> Image:
        return read_archive(io.BytesIO(b"".join(self._client.images.save(name))))


@pytest.fixture(scope="module")
def builder(shared: Sampan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    directory = tmp_path_factory.mktemp("corpus")
    with serving(directory / "served"), Client(str(shared.root)) as client:
        yield Builder(shared, client, directory)


@pytest.fixture(scope="module")
def built(builder: Builder, request: pytest.FixtureRequest) -> Iterator[Callable[[Case], Outcome]]:
    """Build what tests were chosen of, two side by side; give what came of a case."""
    items = [item for item in request.session.items if "built" in item.fixturenames and hasattr(item, "callspec")]
    chosen = [item.callspec.params["case"] for item in items]
    pool = ThreadPoolExecutor(2)
    coming = {case.id: pool.submit(builder, number, case) for number, case in enumerate(chosen)}
    yield lambda case: coming[case.id].result()
    pool.shutdown(cancel_futures=True)


def test_each_case_was_recorded_as_it_is() -> None:
    assert {case.id: case.digest for case in CASES} == {id: golden["of"] for id, golden in GOLDENS.items()}
    assert len(MADE) >= 150


@pytest.mark.parametrize("case", MADE, ids=lambda case: case.id)
def test_the_image_is_the_real_builders(built: Callable[[Case], Outcome], case: Case) -> None:
    said, image = built(case)

    assert image is not None, said.err
    assert differences(case, image) == []


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_a_bad_one_is_refused_in_one_message_as_by_the_real_builder(
    built: Callable[[Case], Outcome], case: Case
) -> None:
    said, _ = built(case)

    assert said.code == 1
    assert "Traceback" not in said.err
    assert (case.one("says") or case.one("fails")) in said.err, GOLDENS[case.id]["error"]


@pytest.mark.usefixtures("built")
def test_nothing_is_left_of_all_these_builds(builder: Builder) -> None:
    assert builder.sampan.leftovers() == []
    assert builder.sampan("ps", "-aq").out == ""


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

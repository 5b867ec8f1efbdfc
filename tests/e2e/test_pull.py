"""`sampan pull`: policies, all tags, several images, plans, what is shown; and clients that pull at the same time."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_registry import INDEX, digest_of, packed
from support.faults import request, say
from support.image_store import tarball
from support.pulling import BLOB, HALF, LAYER, OTHER, SIZE, begun, interrupted, stalling
from support.sampan import Sampan, wait_until
from support.stalling_registry import StallingRegistry
from support.terminal import Terminal

SMALL, THIRD = tarball(d=b"small"), tarball(e=b"third")


@pytest.fixture
def fake() -> Iterator[StallingRegistry]:
    registry = stalling()
    yield registry
    registry.end()


def put(fake: StallingRegistry, name: str, *tars: bytes, **more: object) -> str:
    repository, _, tag = name.partition(":")
    fake.put_image(repository, tag, *tars, compress=packed, **more)
    return f"{fake.address}/{name}"


def fetched(fake: StallingRegistry) -> set[str]:
    return {path.rpartition("/")[2] for path in fake.asked("GET") if "/blobs/" in path}


# ------------------------------------------------------------------------------------------------------ policies


def test_a_missing_image_is_pulled_and_one_that_is_here_is_not_asked_for(
    instance: Sampan, fake: StallingRegistry
) -> None:
    name = put(fake, "small:1", SMALL)

    assert "Downloaded newer image" in instance("pull", "--policy", "missing", name).out
    fake.requests.clear()
    assert instance("pull", "--policy", "missing", name).lines == [f"Status: Image is present for {name}", name]
    assert instance("pull", "--policy", "never", name).lines[-1] == name
    assert fake.requests == []


def test_what_is_never_to_be_pulled_must_be_here(instance: Sampan, fake: StallingRegistry) -> None:
    said = instance.fails(1, "pull", "--policy", "never", put(fake, "small:1", SMALL))

    assert f"No such image: {fake.address}/small:1" in said.err
    assert fake.requests == []


def test_newer_is_another_digest_at_the_registry(instance: Sampan, fake: StallingRegistry) -> None:
    name = put(fake, "small:1", SMALL)
    instance("pull", "--policy", "newer", name)
    fake.requests.clear()

    assert f"Status: Image is up to date for {name}" in instance("pull", "--policy", "newer", name).lines
    assert fake.asked("GET") == []
    put(fake, "small:1", THIRD)
    assert f"Status: Downloaded newer image for {name}" in instance("pull", "--policy", "newer", name).lines


def test_for_newer_a_registry_that_is_gone_is_no_failure_if_the_image_is_here(instance: Sampan) -> None:
    gone = StallingRegistry()
    name = put(gone, "small:1", SMALL)
    instance("pull", name)
    gone.end()

    said = instance("pull", "--policy", "newer", name)
    assert "WARNING: can't look for a newer image, the one that is here is used" in said.out
    assert instance("run", "--rm", "--pull", "newer", name, "/nothing", check=False).code == 127
    instance.fails(1, "pull", "--policy", "newer", f"{gone.address}/other:1")
    instance.fails(1, "pull", "--policy", "always", name)


# ------------------------------------------------------------------------------------------------------ names


def test_all_tags_of_a_repository(instance: Sampan, fake: StallingRegistry) -> None:
    for tag, tar in (("1", SMALL), ("2", SMALL), ("3", THIRD)):
        put(fake, f"many:{tag}", tar)

    said = instance("pull", "-a", f"{fake.address}/many")

    assert [line for line in said.lines if "Pulling from" in line] == [f"{tag}: Pulling from many" for tag in "123"]
    assert said.lines[-2:] == [f"Status: Downloaded newer image for {fake.address}/many", f"{fake.address}/many"]
    listed = instance("images", "--format", "{{.Tag}}", f"{fake.address}/many").lines
    assert sorted(listed) == ["1", "2", "3"]
    assert instance("pull", "-aq", f"{fake.address}/many").line == f"{fake.address}/many"
    assert "tag can't be used with --all-tags/-a" in instance.fails(1, "pull", "-a", f"{fake.address}/many:1").err
    assert "the repository has no tags" in instance.fails(1, "pull", "-a", f"{fake.address}/nope").err


def test_several_images_and_those_that_fail_do_not_stop_the_others(instance: Sampan, fake: StallingRegistry) -> None:
    names = [put(fake, "small:1", SMALL), f"{fake.address}/nope:1", put(fake, "small:3", THIRD)]

    said = instance.fails(1, "pull", "-q", *names)

    assert said.lines == [names[0], names[2]]
    assert "manifest unknown" in said.err


def test_an_image_for_another_platform_is_kept_with_a_warning(instance: Sampan, fake: StallingRegistry) -> None:
    name = put(fake, "small:1", SMALL, architecture="arm64")

    said = instance("pull", "--platform", "linux/riscv64", name)

    assert (
        f"WARNING: image with reference {fake.address}/small was found but does not match the specified platform: "
        "wanted linux/riscv64, actual: linux/arm64"
    ) in said.lines
    assert instance.json("inspect", name)[0]["Architecture"] == "arm64"


def test_a_platform_without_an_architecture_is_this_machines(instance: Sampan, fake: StallingRegistry) -> None:
    fake.hold_at.clear()
    name = put(fake, "small:1", SMALL)

    assert "WARNING" not in instance("pull", "--platform", "linux", name).out
    assert instance("history", "-q", "--platform", "linux", name).lines
    assert "bogus" in instance.fails(1, "pull", "--platform", "bogus", name).err


def test_the_platform_may_be_in_the_environment(instance: Sampan, fake: StallingRegistry) -> None:
    name = put(fake, "small:1", SMALL, architecture="arm64")

    said = instance("pull", name, env={"DOCKER_DEFAULT_PLATFORM": "linux/riscv64"})
    assert "wanted linux/riscv64, actual: linux/arm64" in said.out


def test_an_index_without_the_platform_is_refused(instance: Sampan, fake: StallingRegistry) -> None:
    entry = fake.put_image("small", None, SMALL)
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    document["manifests"] = [{**entry, "platform": {"os": "linux", "architecture": "amd64"}}]
    fake.put("small", "manifests", INDEX, json.dumps(document).encode(), "1")

    said = instance.fails(1, "pull", "--platform", "linux/riscv64", f"{fake.address}/small:1")
    assert "no matching manifest for linux/riscv64 in the manifest list entries" in said.err


def test_the_api_answers_404_for_what_is_not_there(instance: Sampan, fake: StallingRegistry) -> None:
    instance("ps")

    answer = say(instance, request("POST", f"/v1.50/images/create?fromImage={fake.address}/nope&tag=1"))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"manifest unknown" in answer


def test_a_registry_s_words_do_not_command_the_terminal(instance: Sampan, fake: StallingRegistry) -> None:
    def refuse(handler: Any) -> None:
        fake.send(handler, 404, b'{"errors":[{"code":"X\\u001b]0;title\\u0007","message":"\\u001b[31mred\\r"}]}', {})

    fake.scripts["GET /v2/small/manifests/1"] = refuse

    said = instance.fails(1, "pull", f"{fake.address}/small:1")
    assert "x\\x1b]0;title\\x07: \\x1b[31mred\\x0d" in said.err


# ------------------------------------------------------------------------------------------------------ plans


def test_a_plan_tells_what_is_here_what_goes_on_and_what_is_fetched(instance: Sampan, fake: StallingRegistry) -> None:
    here = put(fake, "small:1", SMALL)
    name = put(fake, "app:2", SMALL, LAYER, OTHER)
    instance("pull", here)
    client = begun(instance, fake)
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=10)
    wait_until(lambda: interrupted(instance, f"{fake.address}/app:1"))
    fake.requests.clear()

    (plan,) = instance.json("pull", "--plan", "--format", "json", name)
    text = instance("pull", "--plan", name).lines

    states = [(layer["State"], layer["Size"], layer["Fetched"], layer["Images"]) for layer in plan["Layers"]]
    other = len(packed(OTHER))
    assert states == [
        ("here", len(packed(SMALL)), 0, [here]),
        ("interrupted", SIZE, SIZE - HALF, []),
        ("fetched", other, other, []),
    ]
    assert plan["Platform"] == "linux/amd64"
    assert not plan["IsHere"]
    assert text[0] == f"{name}  linux/amd64  {plan['Digest']}"
    assert [line.split()[0] for line in text[2:5]] == [layer["Digest"][7:19] for layer in plan["Layers"]]
    assert f"is here: {here}" in text[2]
    assert text[-1] == "To be fetched: 2.5MB of 4MB in 3 layers"
    assert not fetched(fake) & {digest_of(packed(tar)) for tar in (SMALL, LAYER, OTHER)}
    fake.hold_at.clear()
    instance("pull", name)
    assert fake.starts[BLOB] == [0, HALF]
    assert instance.json("pull", "--plan", "--format", "json", name)[0]["IsHere"]


def test_a_plan_knows_what_another_pull_is_fetching(instance: Sampan, fake: StallingRegistry) -> None:
    client = begun(instance, fake)

    (plan,) = instance.json("pull", "--plan", "--format", "json", f"{fake.address}/app:1")
    text = instance("pull", "--plan", f"{fake.address}/app:1").lines

    (layer,) = plan["Layers"]
    assert layer["State"] == "coming"
    assert SIZE - HALF <= layer["Fetched"] < SIZE
    assert text[2].endswith("is just being fetched by another pull")
    fake.hold_at.clear()
    client.communicate(timeout=30)
    assert instance.json("pull", "--plan", "--format", "json", f"{fake.address}/app:1")[0]["IsHere"]


def test_a_plan_of_all_tags_counts_each_layer_once(instance: Sampan, fake: StallingRegistry) -> None:
    put(fake, "many:1", SMALL)
    put(fake, "many:2", SMALL, THIRD)

    said = instance("pull", "--plan", "-a", f"{fake.address}/many")
    size = len(packed(SMALL)) + len(packed(THIRD))
    assert said.lines[-1] == f"To be fetched: {size}B of {size}B in 2 layers"
    assert instance("images", "-q", f"{fake.address}/many").out == ""


# ------------------------------------------------------------------------------------------------------ progress


def test_plain_progress_has_no_numbers(instance: Sampan, fake: StallingRegistry) -> None:
    fake.hold_at.clear()

    said = instance("pull", f"{fake.address}/app:1", env={"NO_COLOR": "1"})
    assert "\x1b" not in said.out
    assert [line for line in said.lines if line.startswith(BLOB[7:19])] == [
        f"{BLOB[7:19]}: {status}"
        for status in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete")
    ]


def test_raw_progress_is_the_api_s(instance: Sampan, fake: StallingRegistry) -> None:
    fake.hold_at.clear()

    said = instance("pull", "--progress", "rawjson", f"{fake.address}/app:1")
    messages = [json.loads(line) for line in said.lines]
    assert {"status": "Pulling fs layer", "progressDetail": {}, "id": BLOB[7:19]} in messages
    assert messages[-1]["status"].startswith("Status: Downloaded newer image")
    failed = instance.fails(1, "pull", "--progress=rawjson", f"{fake.address}/nope")
    assert "manifest unknown" in failed.err


def test_an_unknown_form_of_progress_is_refused(instance: Sampan) -> None:
    assert "--progress: fancy" in instance.fails(125, "pull", "--progress", "fancy", "x").err


def test_a_terminal_shows_bars_and_the_total(instance: Sampan, fake: StallingRegistry, tmp_path: Path) -> None:
    terminal = Terminal(instance, tmp_path)
    try:
        terminal.enter(f"sampan pull {fake.address}/app:1")
        screen = terminal.shows("Total: 1.5MB/3MB")
        assert f"{BLOB[7:19]}: Downloading [=" in screen
        fake.hold_at.clear()
        screen = terminal.shows("Status: Downloaded newer image")
        assert f"{BLOB[7:19]}: Pull complete" in screen
        assert "Total" not in screen
    finally:
        terminal.end()


def test_more_layers_than_rows_fit_on_the_screen(instance: Sampan, fake: StallingRegistry, tmp_path: Path) -> None:
    tars = [LAYER, *(tarball(**{f"f{number}": b"x"}) for number in range(40))]
    name = put(fake, "many:1", *tars)
    terminal = Terminal(instance, tmp_path)
    try:
        terminal.enter(f"sampan pull {name}")
        screen = terminal.shows("and 40 more, 40 of them are done")
        assert screen.count(f"{BLOB[7:19]}: ") == 1
        fake.hold_at.clear()
        terminal.shows("Status: Downloaded newer image")
    finally:
        terminal.end()


# ------------------------------------------------------------------------------------------------------ together


class Second:
    """Another client's pull of app:1, that has joined a first one's; `out` is what it has printed."""

    def __init__(self, instance: Sampan, fake: StallingRegistry, out: Path) -> None:
        self._out = out
        with out.open("wb") as file:
            self._client = instance.start("pull", "--progress", "rawjson", f"{fake.address}/app:1", stdout=file)
        wait_until(lambda: any(self.numbers()), what="it tells how much has come")

    def numbers(self) -> list[int | None]:
        lines = self._out.read_text().split("\n")[:-1]
        return [json.loads(line).get("progressDetail", {}).get("current") for line in lines]

    def end(self) -> str:
        """Return what it has printed when it has ended well."""
        _, err = self._client.communicate(timeout=30)
        assert self._client.returncode == 0, err
        return self._out.read_text()


def test_two_clients_fetch_a_layer_once_and_both_tell_how_far_it_is(
    instance: Sampan, fake: StallingRegistry, tmp_path: Path
) -> None:
    first = begun(instance, fake)
    second = Second(instance, fake, tmp_path / "out")
    fake.hold_at.clear()

    first.communicate(timeout=30)
    assert "Pull complete" in second.end()
    assert first.returncode == 0
    assert fake.starts[BLOB] == [0]


def test_a_client_that_leaves_does_not_break_another_s_pull(
    instance: Sampan, fake: StallingRegistry, tmp_path: Path
) -> None:
    first = begun(instance, fake)
    second = Second(instance, fake, tmp_path / "out")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=10)
    fake.hold_at.clear()

    assert "Downloaded newer image" in second.end()
    assert fake.starts[BLOB][0] == 0
    assert all(start > HALF - 600_000 for start in fake.starts[BLOB][1:])


def test_a_client_that_does_not_read_stops_nobody(instance: Sampan, fake: StallingRegistry) -> None:
    first = begun(instance, fake)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        fake.hold_at.clear()
        assert "app:1" in instance("pull", f"{fake.address}/app:1").out
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=30)
    assert first.returncode == 0

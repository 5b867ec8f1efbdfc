"""What builds keep, told and removed; why something was not there; caches of elsewhere; several platforms."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from sampan.client.wire import Connection
from support.builds import Outcome, build, directory, refused
from support.registry import Registry
from support.sampan import Sampan, new_root, wait_until

TEXT = "FROM busybox\nARG V=1\nWORKDIR /w\nCOPY . .\nRUN echo $V > /made; head -c 5000 /dev/zero > /large\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    for name in ("a", "b"):
        (tmp_path / "context" / name).write_text(name)
    return tmp_path / "context"


@pytest.fixture
def other(busybox_tar: Path) -> Iterator[Sampan]:
    """Yield another instance, which has built nothing."""
    sampan = Sampan(new_root())
    try:
        sampan("import", busybox_tar, "busybox")
        yield sampan
    finally:
        sampan.end()


def ask(sampan: Sampan, method: str, path: str) -> dict:
    connection = Connection(str(sampan.socket))
    try:
        response = connection.request(method, f"/v1.50{path}", b"", {})
        return json.loads(response.read())
    finally:
        connection.close()


def records(sampan: Sampan) -> list[dict]:
    return ask(sampan, "GET", "/system/df?type=build-cache")["BuildCache"]


def prune(sampan: Sampan, query: str = "", **filters: str) -> dict:
    given = quote(json.dumps({name: [value] for name, value in filters.items()}))
    return ask(sampan, "POST", f"/build/prune?filters={given}&{query}")


# ------------------------------------------------------------------------------------------------------------- why


def test_a_miss_names_the_first_thing_that_differs(shared: Sampan, context: Path) -> None:
    build(shared, TEXT, context=directory(context))

    argument = build(shared, TEXT, context=directory(context), args={"V": "2"}, why=True)
    (context / "b").write_text("other")
    changed = build(shared, TEXT, context=directory(context), why=True)
    (context / "b").unlink()
    gone = build(shared, TEXT, context=directory(context), why=True)
    anew = build(shared, TEXT, context=directory(context), why=True, no_cache=True)

    (run,) = argument.misses.values()
    assert run == "the variable V differs: 2, it was 1"
    assert changed.misses["COPY . ."] == "the file b has changed"
    assert changed.misses[list(changed.misses)[1]] == "what is below it has other files: COPY . ."
    assert gone.misses["COPY . ."] == "the file b is gone"
    assert set(anew.misses.values()) == {"the cache is not to be used"}


def test_a_miss_for_a_file_of_a_mount_names_both(shared: Sampan, context: Path) -> None:
    text = "FROM busybox\nRUN --mount=target=/c cat /c/a > /x"
    build(shared, text, context=directory(context))
    (context / "a").write_text("other")

    assert list(build(shared, text, context=directory(context), why=True).misses.values()) == [
        "the file a has changed at /c"
    ]


# ------------------------------------------------------------------------------------------------------ du and prune


def test_what_is_kept_is_told_with_its_parents_and_whether_images_share_it(
    instance: Sampan, busybox_image: str
) -> None:
    build(
        instance, "FROM busybox\nRUN echo kept > /x\nRUN --mount=type=cache,target=/c echo > /c/f; cp /x /y", tags=["t"]
    )

    first, second, mount = sorted(
        records(instance), key=lambda record: (record["Type"] != "regular", record["Description"])
    )

    assert (second["Description"], second["Type"], second["Shared"], second["UsageCount"]) == (
        "RUN echo kept > /x",
        "regular",
        True,
        1,
    )
    assert first["Parents"] == [second["ID"]]
    assert (mount["Description"], mount["Type"], mount["InUse"]) == ("cache mount /c", "exec.cachemount", False)


def test_a_prune_leaves_what_images_share_unless_all_is_to_go(instance: Sampan, busybox_image: str) -> None:
    build(instance, "FROM busybox\nRUN head -c 10000 /dev/zero > /image", tags=["t"])
    build(instance, "FROM busybox\nRUN head -c 20000 /dev/zero > /nobody")
    instance("image", "prune", "-f")

    assert prune(instance)["SpaceReclaimed"] == 20000
    assert [record["Description"] for record in records(instance)] == ["RUN head -c 10000 /dev/zero > /image"]
    gone = prune(instance, "all=1")
    assert (len(gone["CachesDeleted"]), gone["SpaceReclaimed"]) == (1, 0)
    assert instance("run", "--rm", "t", "wc", "-c", "/image").out.split()[0] == "10000"


def test_a_layer_goes_when_neither_image_nor_cache_needs_it(instance: Sampan, busybox_image: str) -> None:
    build(instance, "FROM busybox\nRUN head -c 10000 /dev/zero > /f", tags=["t"])
    layers = Path(instance.root) / "layers" / "sha256"
    before = len(os.listdir(layers))

    instance("rmi", "t")
    assert len(os.listdir(layers)) == before
    prune(instance)
    assert len(os.listdir(layers)) == before - 1


@pytest.mark.parametrize(
    ("query", "filters", "left"),
    [
        ("reserved-space=25000", {}, "12"),  # what was used last stays
        ("max-used-space=15000", {}, "2"),
        ("", {"until": "1h"}, "012"),
        ("", {"type": "exec.cachemount"}, "012"),
        ("", {"description": "RUN head -c 10000 /dev/zero > /1"}, "02"),
        ("", {"private": "true"}, ""),
        ("", {"inuse": "true"}, "012"),
    ],
)
def test_a_prune_may_leave_some(
    instance: Sampan, busybox_image: str, query: str, filters: dict[str, str], left: str
) -> None:
    for number in range(3):
        build(instance, f"FROM busybox\nRUN head -c 10000 /dev/zero > /{number}")
    instance("image", "prune", "-f")

    prune(instance, query, **filters)

    assert sorted(record["Description"][-1] for record in records(instance)) == list(left)


def test_what_is_too_much_goes_after_a_build(instance: Sampan, busybox_image: str) -> None:
    build(instance, "FROM busybox\nRUN head -c 10000 /dev/zero > /first", tags=["t"])
    instance("rmi", "t")
    limits = "[build]\nreserved-percent = 0\nmin-free-percent = 100\n"
    (Path(instance.root) / "config.toml").write_text(limits)

    build(instance, "FROM busybox\nRUN head -c 10000 /dev/zero > /second", tags=["t"])

    def kept() -> list[str]:
        return [record["Description"][-7:] for record in records(instance)]

    wait_until(lambda: kept() == ["/second"], what="only what an image has is kept")


# ------------------------------------------------------------------------------------------------ caches of elsewhere


def built_with(sampan: Sampan, context: Path, **request) -> Outcome:
    return build(sampan, TEXT, context=directory(context), **request)


def layers(sampan: Sampan, outcome: Outcome) -> list[str]:
    return sampan.json("image", "inspect", outcome.id)[0]["RootFS"]["Layers"]


def test_a_registrys_cache_serves_another_machine(
    shared: Sampan, other: Sampan, registry: Registry, context: Path
) -> None:
    place = {"type": "registry", "attributes": {"ref": f"{registry.address}/cache:1", "mode": "max"}}
    first = built_with(shared, context, cache_to=[place])

    second = built_with(other, context, cache_from=[place])

    assert second.performed == []
    assert layers(other, second) == layers(shared, first)
    assert built_with(other, context).performed == []
    assert other("run", "--rm", second.id, "cat", "/made").out == "1\n"


def test_a_directorys_cache_has_all_stages_only_where_that_is_asked_for(
    shared: Sampan, other: Sampan, context: Path, tmp_path: Path
) -> None:
    text = "FROM busybox AS one\nRUN echo 1 > /x\nFROM busybox\nCOPY --from=one /x /x\nRUN echo 2 > /y"
    for mode in ("min", "max"):
        build(shared, text, cache_to=[{"type": "local", "attributes": {"dest": str(tmp_path / mode), "mode": mode}}])

    def performed(mode: str) -> list[str]:
        return build(other, text, cache_from=[{"type": "local", "attributes": {"src": str(tmp_path / mode)}}]).performed

    assert performed("min") == ["RUN echo 1 > /x"]
    prune(other, "all=1")
    assert performed("max") == []


def test_an_image_that_was_pushed_may_carry_its_cache(
    shared: Sampan, other: Sampan, registry: Registry, context: Path
) -> None:
    name = f"{registry.address}/inline:1"
    first = built_with(shared, context, tags=[name], cache_to=[{"type": "inline"}])
    shared("push", name)

    second = built_with(other, context, cache_from=[{"type": "registry", "attributes": {"ref": name}}])

    assert second.performed == []
    assert layers(other, second) == layers(shared, first)


def test_a_layer_that_is_gone_from_its_place_is_made_again(
    shared: Sampan, other: Sampan, context: Path, tmp_path: Path
) -> None:
    place = str(tmp_path / "cache")
    built_with(shared, context, cache_to=[{"type": "local", "attributes": {"dest": place}}])
    for blob in Path(place, "blobs", "sha256").iterdir():
        if not blob.read_bytes().startswith(b"{"):
            blob.unlink()

    outcome = built_with(other, context, cache_from=[{"type": "local", "attributes": {"src": place}}])

    assert len(outcome.performed) == 3
    assert "can't take sha256:" in outcome.of("Warned")[0]["message"]


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_cache_that_cannot_be_read_is_no_failure(shared: Sampan, context: Path, tmp_path: Path, place: str) -> None:
    if place == "empty":
        (tmp_path / place).mkdir()
    location = {"type": "local", "attributes": {"src": str(tmp_path / place)}}

    outcome = built_with(shared, context, args={"V": place}, cache_from=[location])

    (warned,) = outcome.of("Warned")
    assert warned["message"].startswith(f"failed to import cache from {tmp_path / place}: ")


def test_a_cache_that_cannot_be_left_fails_the_build_unless_that_is_no_matter(
    shared: Sampan, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    attributes = {"dest": str(tmp_path / "full")}

    assert "can't export a cache to" in refused(
        shared, TEXT, context=directory(context), cache_to=[{"type": "local", "attributes": attributes}]
    )
    location = {"type": "local", "attributes": {**attributes, "ignore-error": "true"}}
    assert built_with(shared, context, cache_to=[location]).id


# --------------------------------------------------------------------------------------------------------- triggers


def test_a_trigger_may_take_files_from_a_stage_that_nothing_else_needs(shared: Sampan) -> None:
    build(shared, "FROM busybox\nONBUILD COPY --from=tool /x /x", tags=["triggering"])

    outcome = build(
        shared, "FROM busybox AS below\nRUN echo 1 > /x\nFROM below AS tool\nFROM triggering", tags=["made"]
    )

    assert shared("run", "--rm", outcome.id, "cat", "/x").out == "1\n"


def test_a_stage_that_is_misspelt_is_told_where_no_image_has_the_name(instance: Sampan, busybox_image: str) -> None:
    (Path(instance.root) / "config.toml").write_text("[registries]\ntries = 1\n")

    said = refused(instance, "FROM busybox AS build\nFROM busybox\nCOPY --from=biuld /x /x")

    assert said.endswith("(did you mean build?)")


# ------------------------------------------------------------------------------------------------------- platforms


def test_files_for_another_platform_need_no_emulator_and_several_make_a_list(shared: Sampan, context: Path) -> None:
    text = "FROM scratch\nARG TARGETARCH\nCOPY a /\nLABEL for=$TARGETARCH"
    own = os.uname().machine
    wanted = [{"architecture": "s390x"}, {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[own]}]

    outcome = build(shared, text, context=directory(context), platforms=wanted, tags=["several"])

    images = {image["platform"]: image["id"] for image in outcome.built["images"]}
    assert "linux/s390x" in images
    inspected = shared.json("image", "inspect", images["linux/s390x"])[0]
    assert (inspected["Architecture"], inspected["Config"]["Labels"]) == ("s390x", {"for": "s390x"})
    assert shared.json("image", "inspect", "several")[0]["Architecture"] == wanted[1]["architecture"]
    shared("image", "prune", "-f")
    assert shared.json("image", "inspect", images["linux/s390x"])
    listed = json.loads(shared("manifest", "inspect", "several").out)
    assert [entry["platform"]["architecture"] for entry in listed["manifests"]] == [w["architecture"] for w in wanted]
    assert outcome.built["index"].startswith("sha256:")


def test_programs_of_another_platform_are_refused_with_what_would_run_them(shared: Sampan) -> None:
    said = refused(shared, 'FROM scratch\nRUN ["/x"]', platforms=[{"architecture": "s390x"}])

    assert "programs of linux/s390x on this machine" in said
    assert "no emulator is registered" in said

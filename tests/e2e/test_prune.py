"""Prunes: what goes, what never goes, and what is asked first."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sampan.client import Client
from sampan.errors import InvalidInput
from support.images import busybox_tar as make_tar
from support.sampan import Sampan


@pytest.fixture
def stocked(instance: Sampan, busybox_tar: Path) -> Sampan:
    instance("import", busybox_tar, "busybox")
    return instance


def names(sampan: Sampan) -> list[str]:
    return sorted(
        line for line in sampan("images", "-a", "--format", "{{.Repository}}:{{.Tag}}").lines if line != "host:latest"
    )


@pytest.mark.parametrize("answer", ["n\n", "", "yes\n", "\n"])
def test_nothing_goes_without_a_yes(stocked: Sampan, answer: str) -> None:
    stocked("create", "--name", "idle", "busybox", "true")

    for verb in (("system", "prune", "-a", "--volumes"), ("container", "prune"), ("image", "prune", "-a")):
        assert stocked(*verb, input=answer).out.endswith("Are you sure you want to continue? [y/N] ")

    assert names(stocked) == ["busybox:latest"]
    assert stocked("ps", "-aq").lines


def test_a_yes_removes_stopped_containers_then_what_they_used(stocked: Sampan) -> None:
    stocked(
        "run",
        "--name",
        "once",
        "-v",
        "/data",
        "-v",
        "kept:/kept",
        "busybox",
        "dd",
        "if=/dev/zero",
        "of=/x",
        "bs=1k",
        "count=5",
    )
    (id,) = stocked("ps", "-aq", "--no-trunc").lines

    said = stocked("system", "prune", "-a", "--volumes", input="y\n").out

    assert f"Deleted Containers:\n{id}\n\nDeleted Volumes:\n" in said
    assert "Deleted Images:\nuntagged: busybox:latest\ndeleted: sha256:" in said
    assert "Total reclaimed space: 1.98" in said
    assert [path.name for path in (stocked.root / "volumes").iterdir()] == ["kept"]
    assert not list((stocked.root / "layers/sha256").iterdir())


def test_an_image_that_a_container_uses_keeps_all_its_names(stocked: Sampan) -> None:
    stocked("tag", "busybox", "other:1")
    stocked("create", "--name", "idle", "busybox", "true")

    assert stocked("image", "prune", "-af").line == "Total reclaimed space: 0B"
    assert names(stocked) == ["busybox:latest", "other:1"]


def test_a_running_container_is_never_pruned(stocked: Sampan) -> None:
    stocked("run", "-d", "--name", "web", "-v", "/data", "busybox", "sleep", "100")

    assert stocked("system", "prune", "-af", "--volumes").line == "Total reclaimed space: 0B"
    assert stocked("ps", "--format", "{{.Names}}").lines == ["web"]
    assert len(list((stocked.root / "volumes").iterdir())) == 1


def test_named_volumes_go_only_where_all_are_asked_for(stocked: Sampan) -> None:
    stocked("run", "--rm", "-v", "named:/a", "busybox", "sh", "-c", "echo hello > /a/x")
    with Client(str(stocked.root)) as client:
        assert client.volumes.prune().volumes_deleted is None
        assert client.volumes.prune(all=True, filters={"label": "no"}).volumes_deleted is None
        gone = client.volumes.prune(all=True)

    assert (gone.volumes_deleted, gone.space_reclaimed) == (("named",), 6)


def test_images_that_were_used_or_named_lately_stay(stocked: Sampan, tmp_path: Path) -> None:
    stocked("import", make_tar(tmp_path / "again.tar"), "second")

    assert stocked("image", "prune", "-af", "--filter", "unused-for=1h").line == "Total reclaimed space: 0B"
    time.sleep(0.01)
    assert "untagged: second:latest" in stocked("image", "prune", "-af", "--filter", "unused-for=1ms").lines
    assert "invalid filter 'unused-for=x'" in stocked.fails(1, "image", "prune", "-f", "--filter", "unused-for=x").err


def test_filters_of_the_configuration_protect_as_well(stocked: Sampan, busybox_tar: Path, tmp_path: Path) -> None:
    stocked("import", "-c", "LABEL keep=me", busybox_tar, "precious")
    (tmp_path / "config.json").write_text(json.dumps({"pruneFilters": ["label!=keep"]}))

    stocked("--config", tmp_path, "image", "prune", "-af")
    assert names(stocked) == ["precious:latest"]
    assert "  - label!=keep\n" in stocked("--config", tmp_path, "system", "prune").out
    stocked("--config", tmp_path, "image", "prune", "-af", "--filter", "label=keep")
    assert names(stocked) == []


def test_prunes_are_events(stocked: Sampan) -> None:
    since = str(time.time() - 1)
    stocked("image", "prune", "-f")
    rows = stocked("events", "--since", since, "--until", str(time.time() + 0.1), "--format", "{{json .}}").lines

    (event,) = [event for event in map(json.loads, rows) if event["Action"] == "prune"]
    assert (event["Type"], event["Actor"]["Attributes"]) == ("image", {"reclaimed": "0"})


def test_an_image_is_either_pruned_or_used(stocked: Sampan, busybox_tar: Path) -> None:
    for number in range(12):
        stocked("import", busybox_tar, "contended")
        creating = stocked.start("create", "--name", f"c{number}", "--pull", "never", "contended", "true")
        pruning = stocked.start("image", "prune", "-af")
        _, said = creating.communicate(timeout=60)
        pruning.communicate(timeout=60)

        if creating.returncode:
            assert b"No such image" in said
        else:
            assert stocked("start", "-a", f"c{number}").code == 0
            stocked("rm", f"c{number}")


def test_a_dry_run_tells_what_the_prune_then_does(stocked: Sampan, busybox_tar: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo 12345 > /made\n")
    stocked("build", "-q", "-t", "built", tmp_path)
    stocked("run", "--name", "once", "-v", "/data", "built", "sh", "-c", "echo 1234567 > /data/x; echo 1 > /y")
    stocked("network", "create", "lonely")

    planned = stocked("system", "prune", "-a", "--volumes", "--dry-run").lines
    again = stocked("system", "prune", "-af", "--volumes", "--dry-run").lines
    pruned = stocked("system", "prune", "-af", "--volumes").lines

    assert planned == again
    assert planned[0] == "Would be removed:"
    assert [line.split()[:2] for line in planned if line.startswith(("container", "network"))] == [
        ["container", "once"],
        ["network", "lonely"],
    ]
    assert {line.split()[0] for line in planned[3:-2]} == {"container", "network", "volume", "image", "build-cache"}
    assert planned[-1].removeprefix("Would give back: ") == pruned[-1].removeprefix("Total reclaimed space: ")
    assert stocked("system", "prune", "-a", "--volumes", "--dry-run").line == "Nothing would be removed."


def test_why_something_is_not_freed_is_told_with_what_would_free_it(stocked: Sampan) -> None:
    stocked("network", "create", "net")
    stocked("run", "-d", "--name", "web", "--network", "net", "-v", "kept:/a", "busybox", "sleep", "100")
    stocked("volume", "create", "mine")

    format = "{{.Type}} {{.Name}}: {{.Why}}; {{.FreedBy}}"
    told = stocked("system", "df", "--why", "--format", format).lines

    assert told == [
        "image busybox:latest: container web uses it; sampan rm -f web && sampan rmi busybox:latest",
        "container web: it is running; sampan rm -f web",
        "volume kept: container web uses it; sampan rm -f web && sampan volume rm kept",
        "volume mine: it has a name; sampan volume rm mine",
        "network net: container web uses it; sampan rm -f web && sampan network rm net",
    ]
    stocked("create", "--name", "idle", "-v", "/anonymous", "busybox", "true")
    listed = stocked("system", "df", "--why", "--format", format).lines
    (told,) = [line for line in listed if line.startswith("volume ") and "idle" in line]
    assert told.endswith(": container idle uses it; sampan rm -v idle")
    stocked(*told.rpartition("; sampan ")[2].split())
    assert "idle" not in stocked("system", "df", "--why").out


def test_the_client_tells_a_plan_of_one_kind(stocked: Sampan) -> None:
    with Client(str(stocked.root)) as client:
        some, all = (client.prune_plan(["image"], all=all) for all in (False, True))
        with pytest.raises(InvalidInput, match="unknown kind of object: cat"):
            client.prune_plan(["cat"])

    assert [(item.kind, item.name, item.kept) for item in some.items] == [("image", "busybox:latest", "it has a name")]
    assert some.space_reclaimed == 0
    assert all.items[0].kept == ""
    assert all.space_reclaimed == all.items[0].freed == all.items[0].size > 1_000_000


def test_a_prune_of_what_has_a_label_leaves_the_build_cache_which_has_none(stocked: Sampan, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo 12345 > /made\n")
    stocked("build", "-q", tmp_path)

    stocked("system", "prune", "-af", "--filter", "label=mine")
    assert stocked("builder", "du").lines[1:-4]
    stocked("system", "prune", "-af", "--filter", "label!=mine")
    assert not stocked("builder", "du").lines[1:-4]

"""Volumes: made, filled, shared, mounted in part, kept while they are used, and removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.sampan import Sampan


def run(sampan: Sampan, *args: str) -> str:
    return sampan("run", "--rm", "--network", "none", *args).out


def test_a_volume_is_made_listed_inspected_and_removed(sampan: Sampan) -> None:
    assert sampan("volume", "create", "--label", "tier=data", "db").out == "db\n"

    assert sampan("volume", "ls").out == "DRIVER    VOLUME NAME\nlocal     db\n"
    assert sampan("volume", "ls", "-q", "--filter", "label=tier=data").out == "db\n"
    assert sampan("volume", "ls", "-q", "--filter", "label=tier=web").out == ""
    (volume,) = json.loads(sampan("volume", "inspect", "db").out)
    assert volume["Labels"] == {"tier": "data"}
    assert Path(volume["Mountpoint"]).is_dir()
    assert sampan("inspect", "--type", "volume", "--format", "{{.Name}} {{.Driver}} {{.Scope}}", "db").out == (
        "db local local\n"
    )
    assert sampan("volume", "rm", "db").out == "db\n"
    assert not Path(volume["Mountpoint"]).exists()


def test_one_without_a_name_is_anonymous_and_goes_with_prune(sampan: Sampan) -> None:
    name = sampan("volume", "create").out.strip()
    sampan("volume", "create", "kept")

    assert len(name) == 64
    pruned = sampan("volume", "prune", "-f").out
    assert f"Deleted Volumes:\n{name}\n\nTotal reclaimed space: 0B\n" == pruned
    assert sampan("volume", "ls", "-q").out == "kept\n"
    assert "kept" in sampan("volume", "prune", "-af").out


def test_a_used_volume_stays_and_the_error_says_who_uses_it(sampan: Sampan) -> None:
    id = sampan("create", "-v", "data:/data", "busybox", "true").out.strip()

    refused = sampan("volume", "rm", "data", check=False)

    assert refused.code == 1
    assert refused.err.startswith(f"Error response from daemon: remove data: volume is in use - [{id}]\n")
    assert sampan("volume", "ls", "-q", "--filter", "dangling=true").out == ""
    sampan("rm", id)
    assert sampan("volume", "ls", "-q", "--filter", "dangling=true").out == "data\n"
    sampan("volume", "rm", "data")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("rm", "nothing"), 1, "Error response from daemon: get nothing: no such volume"),
        (("inspect", "nothing"), 1, "Error response from daemon: get nothing: no such volume"),
        (("exists", "nothing"), 1, ""),
        (("create", "a/b"), 1, 'Error response from daemon: create a/b: "a/b" includes invalid characters for a local'),
        (("create", "x"), 1, "Error response from daemon: create x: volume name is too short"),
        (("create", "-d", "nfs", "x1"), 1, "Error response from daemon: create x1: error looking up volume plugin nfs"),
        (
            ("create", "-o", "size=1g", "x1"),
            1,
            "Error response from daemon: create x1: quota size requested but no quota",
        ),
        (
            ("create", "-o", "type=nfs", "x1"),
            1,
            'Error response from daemon: create x1: missing required option: "device"',
        ),
        (("create", "-o", "what=x", "x1"), 1, 'Error response from daemon: create x1: invalid option: "what"'),
        (("ls", "--filter", "what=x"), 1, "Error response from daemon: invalid filter 'what'"),
    ],
)
def test_what_is_wrong_is_said_in_dockers_words(sampan: Sampan, args: tuple[str, ...], code: int, message: str) -> None:
    said = sampan("volume", *args, check=False)

    assert said.code == code
    assert said.err.startswith(message)
    assert sampan("volume", "ls", "-q").out == ""


def test_rm_with_force_passes_over_what_is_not_there(sampan: Sampan) -> None:
    assert sampan("volume", "rm", "-f", "nothing").code == 0


def test_a_volume_of_a_directory_of_the_host(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    sampan("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "host")

    assert run(sampan, "-v", "host:/here", "busybox", "cat", "/here/file") == "from the host\n"
    run(sampan, "-v", "host:/here", "busybox", "touch", "/here/new")
    assert (tmp_path / "new").exists()
    sampan("volume", "rm", "host")
    assert (tmp_path / "file").exists()


def test_a_device_that_is_not_there_is_said_at_the_start(sampan: Sampan) -> None:
    sampan("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/not/there", "lost")

    refused = sampan("run", "--rm", "-v", "lost:/x", "busybox", "true", check=False)

    assert refused.code == 125
    assert "/not/there" in refused.err
    assert sampan("ps", "-aq").out == ""
    sampan("volume", "rm", "lost")


def test_volumes_of_another_container_are_the_same_files(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("bound")
    sampan(
        "create", "--name", "first", "-v", "/own", "-v", "named:/named", "-v", f"{tmp_path}:/bound", "busybox", "true"
    )

    run(sampan, "--volumes-from", "first", "busybox", "sh", "-c", "echo 1 >/own/x; echo 2 >/named/x")

    assert (
        run(sampan, "--volumes-from", "first:ro", "busybox", "cat", "/own/x", "/named/x", "/bound/a") == "1\n2\nbound"
    )
    refused = sampan("run", "--rm", "--volumes-from", "first:ro", "busybox", "touch", "/own/y", check=False)
    assert "Read-only file system" in refused.err
    sampan("rm", "-v", "first")
    sampan("volume", "rm", "named")


def test_a_part_of_a_volume_is_mounted_and_no_link_leads_out_of_it(sampan: Sampan) -> None:
    run(sampan, "-v", "data:/d", "busybox", "sh", "-c", "mkdir -p /d/sub; echo in >/d/sub/f; ln -s /etc /d/out")
    mount = "type=volume,source=data,target=/part,volume-subpath="

    assert run(sampan, "--mount", f"{mount}sub", "busybox", "cat", "/part/f") == "in\n"
    assert run(sampan, "--mount", f"{mount}sub/f", "busybox", "cat", "/part") == "in\n"
    for path, message in (("out", "no such file"), ("none", "no such file"), ("../data", "subpath must be a relative")):
        refused = sampan("run", "--rm", "--mount", f"{mount}{path}", "busybox", "true", check=False)
        assert refused.code == 125
        assert message in refused.err
    sampan("volume", "rm", "data")


def test_a_directory_is_kept_out_of_a_bind(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/of-the-host").touch()
    (tmp_path / "main.js").touch()

    said = run(sampan, "-v", f"{tmp_path}:/app,!node_modules", "busybox", "ls", "/app", "/app/node_modules")

    assert said == "/app:\nmain.js\nnode_modules\n\n/app/node_modules:\n"
    refused = sampan("create", "-v", f"{tmp_path}:/app,!../x", "busybox", "true", check=False)
    assert "'../x' is not a directory below /app" in refused.err
    assert sampan("volume", "ls", "-q").out == ""

"""Other programs at our registry: skopeo and podman, with passwords and without."""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.own_registry import OwnRegistry, serving
from support.sampan import Sampan, new_root


def run(*words: object, check: bool = True) -> str:
    done = subprocess.run([str(w) for w in words], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def copy(source: object, target: object, *options: str, check: bool = True) -> str:
    return run(
        "skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false",
        *options, source, target, check=check,
    )  # fmt: skip


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of two layers as an OCI layout."""
    base = tmp_path_factory.mktemp("layout")
    run("umoci", "init", "--layout", base / "oci")
    run("umoci", "new", "--image", f"{base}/oci:v1")
    for number in range(2):
        run("umoci", "unpack", "--image", f"{base}/oci:v1", base / f"bundle{number}")
        shutil.copy("/bin/busybox", base / f"bundle{number}/rootfs/busybox{number}")
        run("umoci", "repack", "--image", f"{base}/oci:v1", base / f"bundle{number}")
    return f"oci:{base}/oci:v1"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[OwnRegistry]:
    with serving(tmp_path / "data", tmp_path / "registry.log") as registry:
        yield registry


def inspect(name: str) -> dict:
    return json.loads(run("skopeo", "inspect", "--tls-verify=false", name))


@pytest.mark.parametrize("format", ["oci", "v2s2"])
def test_skopeo_copies_there_and_back(registry: OwnRegistry, layout: str, tmp_path: Path, format: str) -> None:
    copy(layout, f"docker://{registry.address}/team/app:v1", f"--format={format}")
    copy(f"docker://{registry.address}/team/app:v1", f"docker://{registry.address}/other/app:v2")
    copy(f"docker://{registry.address}/other/app:v2", f"dir:{tmp_path}/out")

    assert "mount=sha256" in registry.log()
    first, second = (inspect(f"docker://{registry.address}/{name}") for name in ("team/app:v1", "other/app:v2"))
    assert first["Digest"] == second["Digest"]
    assert len(second["Layers"]) == 2
    for layer in second["Layers"]:
        assert (tmp_path / "out" / layer.removeprefix("sha256:")).stat().st_size > 100_000


def test_skopeo_lists_and_deletes(registry: OwnRegistry, layout: str, tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        copy(layout, f"docker://{registry.address}/app:{tag}")
    assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.address}/app"))["Tags"] == ["v1", "v2"]  # fmt: skip  # noqa: E501

    run("skopeo", "delete", "--tls-verify=false", f"docker://{registry.address}/app:v1")

    assert registry.ask("GET", "/v2/app/tags/list").json()["tags"] == []
    assert "manifest unknown" in copy(f"docker://{registry.address}/app:v1", f"dir:{tmp_path / 'none'}", check=False)


def test_skopeo_copies_all_platforms(registry: OwnRegistry, layout: str, tmp_path: Path) -> None:
    copy(layout, f"docker://{registry.address}/app:v1")
    manifest = registry.ask("GET", "/v2/app/manifests/v1")
    child = {"mediaType": manifest.headers["content-type"], "digest": manifest.headers["docker-content-digest"], "size": len(manifest.body)}  # fmt: skip  # noqa: E501
    platforms = [{**child, "platform": {"os": "linux", "architecture": name}} for name in ("amd64", "arm64")]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": platforms}
    assert registry.push_manifest("app", "all", index).status == 201

    copy(f"docker://{registry.address}/app:all", f"docker://{registry.address}/copy:all", "--all")

    assert registry.ask("GET", "/v2/copy/manifests/all").body == registry.ask("GET", "/v2/app/manifests/all").body


@pytest.fixture
def podman() -> Iterator[list[str]]:
    """A podman with a store of its own, under a path that is short enough for it."""
    base = new_root()
    yield ["podman", "--root", f"{base}/root", "--runroot", f"{base}/run", "--storage-driver", "vfs"]
    shutil.rmtree(base)


def test_podman_pushes_and_pulls(registry: OwnRegistry, podman: list[str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add("/bin/busybox", "busybox")
    name = f"{registry.address}/team/app:v1"
    run(*podman, "import", tmp_path / "root.tar", name)
    pushed = run(*podman, "image", "inspect", "--format", "{{.Id}}", name)

    for format in ("oci", "v2s2"):
        run(*podman, "push", "--tls-verify=false", f"--format={format}", name)
        run(*podman, "rmi", name)
        run(*podman, "pull", "--tls-verify=false", name)

    assert run(*podman, "image", "inspect", "--format", "{{.Id}}", name) == pushed


@pytest.mark.parametrize("options", [(), ("--anonymous-pull",)])
def test_podman_and_skopeo_log_in(tmp_path: Path, podman: list[str], layout: str, options: tuple) -> None:
    file = tmp_path / "htpasswd"
    run("htpasswd", "-cBb", "-C", "5", file, "alice", "secret")
    auth = tmp_path / "auth.json"

    with serving(tmp_path / "data", tmp_path / "log", "--htpasswd", str(file), *options) as registry:
        target = f"docker://{registry.address}/app:v1"
        login = (*podman, "login", "--tls-verify=false", f"--authfile={auth}", "-u", "alice")
        assert "unauthorized" in copy(layout, target, check=False).lower()
        assert "invalid username/password" in run(*login, "-p", "wrong", registry.address, check=False)
        assert "Login Succeeded" in run(*login, "-p", "secret", registry.address)
        copy(layout, target, f"--dest-authfile={auth}")
        copy(target, f"dir:{tmp_path}/out", f"--src-authfile={auth}")
        anonymous = copy(target, f"dir:{tmp_path}/anonymous", check=False)
        assert (anonymous == "") is bool(options), anonymous


def test_sampan_pushes_pulls_copies_lists_and_deletes(
    registry: OwnRegistry, busybox_image: str, instance: Sampan
) -> None:
    name = f"{registry.address}/team/app:v1"
    instance("tag", busybox_image, name)

    instance("push", name)
    digest = registry.ask("HEAD", "/v2/team/app/manifests/v1").headers["docker-content-digest"]
    instance("rmi", name, busybox_image)
    instance("pull", name)
    assert digest in instance("images", "--digests").out
    instance("push", name)
    assert registry.ask("HEAD", "/v2/team/app/manifests/v1").headers["docker-content-digest"] == digest
    instance("copy", f"docker://{name}", f"docker://{registry.address}/other/app:v2")
    assert "mount=sha256" in registry.log()
    assert instance("list-tags", f"docker://{registry.address}/other/app").json()["Tags"] == ["v2"]
    instance("delete", f"docker://{registry.address}/other/app:v2")
    assert registry.ask("GET", "/v2/other/app/tags/list").json()["tags"] == []


@pytest.mark.parametrize("options", [(), ("--anonymous-pull",)])
def test_sampan_gives_a_password(tmp_path: Path, layout: str, instance: Sampan, options: tuple) -> None:
    file = tmp_path / "htpasswd"
    run("htpasswd", "-cBb", "-C", "5", file, "alice", "secret")

    with serving(tmp_path / "data", tmp_path / "log", "--htpasswd", str(file), *options) as registry:
        target = f"docker://{registry.address}/app:v1"
        assert instance("copy", layout, target, check=False).code != 0
        assert instance("copy", layout, target, "--dest-creds", "alice:wrong", check=False).code != 0
        instance("copy", layout, target, "--dest-creds", "alice:secret")
        instance("copy", target, f"dir:{tmp_path}/out", "--src-creds", "alice:secret")
        anonymous = instance("pull", f"{registry.address}/app:v1", check=False)
        assert (anonymous.code == 0) is bool(options), anonymous

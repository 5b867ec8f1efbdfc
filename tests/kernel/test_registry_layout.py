"""OCI layouts as registries, as skopeo and umoci write and read them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sampan.registry.layout import REF_NAME, name_of, place
from support.own_registry import (
    INDEX,
    MANIFEST,
    descriptor,
    digest_of,
    encode,
    fails,
    image,
    make_layout,
    serving,
)

DIGEST = "sha256:" + "a" * 64


def run(*words: object) -> str:
    return subprocess.run([str(w) for w in words], check=True, timeout=120, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("ref", "place_of_it"),
    [
        ("v1", ("here", "v1")),
        ("app:v1", ("app", "v1")),
        ("team/app:v1", ("team/app", "v1")),
        ("quay.io/team/app:v1", ("team/app", "v1")),
        ("localhost:5000/app:v1", ("app", "v1")),
        ("docker.io/library/debian:bookworm", ("library/debian", "bookworm")),
        (f"team/app@{DIGEST}", ("team/app", None)),
        ("", ("here", None)),
        ("../../etc:v1", ("here", None)),
        ("a b", ("here", None)),
        ("App:v1", ("here", None)),
        ("team/app", ("here", None)),
        ("app:v1@sha256:x", ("here", None)),
        ("app:" + "x" * 200, ("here", None)),
    ],
)
def test_a_reference_name_says_repository_and_tag(ref: str, place_of_it: tuple) -> None:
    assert place({REF_NAME: ref} if ref else {}, "here") == place_of_it


def test_the_whole_name_that_docker_writes_beside_the_tag_counts() -> None:
    annotations = {REF_NAME: "bookworm", "io.containerd.image.name": "docker.io/library/debian:bookworm"}

    assert place(annotations, "here") == ("library/debian", "bookworm")


@pytest.mark.parametrize(
    ("directory", "name"),
    [("layout-dir", "layout-dir"), ("My Layout.d", "my-layout.d"), ("a..b", "a-b"), ("__", "image"), ("Ünï", "n")],
)
def test_a_directory_s_name_becomes_a_repository(directory: str, name: str) -> None:
    assert name_of(f"/x/{directory}") == name


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout that umoci made and skopeo added a second image to."""
    base = tmp_path_factory.mktemp("written")
    run("umoci", "init", "--layout", base / "images")
    run("umoci", "new", "--image", f"{base}/images:v1")
    run("umoci", "unpack", "--image", f"{base}/images:v1", base / "bundle")
    shutil.copy("/bin/busybox", base / "bundle/rootfs/busybox")
    run("umoci", "repack", "--image", f"{base}/images:v1", base / "bundle")
    run("skopeo", "copy", "--insecure-policy", f"oci:{base}/images:v1", f"oci:{base}/images:team/app:v2")
    return base / "images"


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_what_skopeo_wrote_is_served(written: Path, tmp_path: Path, options: tuple) -> None:
    def files() -> list[Path]:
        return sorted(path for path in written.rglob("*") if ".sampan" not in str(path))

    before = files()
    with serving(written, tmp_path / "log", *options) as registry:
        assert registry.ask("GET", "/v2/_catalog").json() == {"repositories": ["images", "team/app"]}
        for name in ("images:v1", "team/app:v2"):
            source = f"docker://{registry.address}/{name}"
            run(
                "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{tmp_path}/{name[-2:]}:x"
            )
    assert files() == before


def test_a_layout_is_served_under_the_name_that_is_given(written: Path, tmp_path: Path) -> None:
    with serving(written, tmp_path / "log", "--read-only", "--name", "other/name") as registry:
        assert registry.ask("GET", "/v2/other/name/tags/list").json()["tags"] == ["v1"]


def test_what_is_pushed_is_read_by_skopeo_and_umoci(written: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "into")

    with serving(layout, tmp_path / "log") as registry:
        for name in ("into:v1", "deep/er/name:v1"):
            target = f"docker://{registry.address}/{name}"
            run("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", f"oci:{written}:v1", target)
    assert run("umoci", "ls", "--layout", layout).split() == ["v1", "deep/er/name:v1"]
    run("skopeo", "copy", "--insecure-policy", f"oci:{layout}:deep/er/name:v1", f"oci:{tmp_path}/out:v1")
    run("umoci", "unpack", "--image", f"{layout}:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/busybox").stat().st_size > 100_000


def test_what_another_program_adds_is_seen(written: Path, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "images")

    with serving(layout, tmp_path / "log") as registry:
        assert registry.ask("GET", "/v2/images/tags/list").json()["tags"] == []
        run("skopeo", "copy", "--insecure-policy", f"oci:{written}:v1", f"oci:{layout}:new")
        assert registry.ask("GET", "/v2/images/tags/list").json()["tags"] == ["new"]
        whole = (layout / "index.json").read_text()
        (layout / "index.json").write_text(whole[:20])  # in the middle of its write
        assert registry.ask("GET", "/v2/images/tags/list").json()["tags"] == ["new"]
        (layout / "index.json").write_text(whole)


def test_the_list_of_manifests_keeps_what_is_not_ours(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "images")
    foreign = {**descriptor(b"gone", MANIFEST), "platform": {"os": "plan9", "architecture": "mips"}, "x": [1]}
    (layout / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [foreign], "annotations": {"a": "b"}})
    )

    with serving(layout, tmp_path / "log") as registry:
        digest = registry.push_image("images", "v1", b"x")
        moved = registry.push_image("images", "v1", b"y")
        assert registry.ask("GET", f"/v2/images/manifests/{digest}").status == 200

    index = json.loads((layout / "index.json").read_text())
    assert index["annotations"] == {"a": "b"}
    assert index["manifests"][0] == foreign
    assert [(one["digest"], one.get("annotations")) for one in index["manifests"][1:]] == [
        (digest, None),
        (moved, {REF_NAME: "v1"}),
    ]


def test_the_manifests_of_an_index_are_there_by_digest(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "images")
    with serving(layout, tmp_path / "log") as registry:
        document = image(registry.push_blob("images", b"{}"), [registry.push_blob("images", b"x")])
        child = descriptor(encode(document), MANIFEST)
        registry.push_manifest("images", child["digest"], document)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}
        registry.push_manifest("images", "all", index)
        registry.ask("DELETE", f"/v2/images/manifests/{child['digest']}")  # only the entry of its own goes

        assert registry.ask("GET", f"/v2/images/manifests/{child['digest']}").headers["content-type"] == MANIFEST
        refused = registry.ask("DELETE", f"/v2/images/manifests/{child['digest']}")
        assert (refused.status, refused.codes) == (405, ["UNSUPPORTED"])
        assert registry.ask("DELETE", f"/v2/images/blobs/{digest_of(b'x')}").status == 405
        assert registry.ask("DELETE", f"/v2/images/manifests/{digest_of(encode(index))}").status == 202
        assert registry.ask("GET", f"/v2/images/manifests/{child['digest']}").status == 404


def test_a_name_that_a_layout_could_not_give_back_is_refused(tmp_path: Path) -> None:
    with serving(make_layout(tmp_path / "images"), tmp_path / "log") as registry:
        answer = registry.push_manifest("quay.io/app", "v1", image(registry.push_blob("quay.io/app", b"{}"), []))

        assert answer.codes == ["NAME_INVALID"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("oci-layout", "{}", "oci-layout can't be read"),
        ("oci-layout", '{"imageLayoutVersion": "2.0"}', "is understood"),
        ("index.json", "[]", "index.json can't be read"),
        ("index.json", '{"manifests": [{"digest": 1}]}', "index.json can't be read"),
    ],
)
def test_a_layout_that_can_t_be_read_is_said_at_once(tmp_path: Path, file: str, text: str, said: str) -> None:
    layout = make_layout(tmp_path / "images")
    (layout / file).write_text(text)

    assert said in fails("serve", layout, "--listen", "127.0.0.1:0")


def test_a_link_in_a_layout_leads_nowhere(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "images")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = digest_of(b"secret")
    (layout / "blobs/sha256" / digest[7:]).symlink_to(secret)

    with serving(layout, tmp_path / "log") as registry:
        assert registry.ask("GET", f"/v2/images/blobs/{digest}").status == 404


@pytest.mark.parametrize("link", [".sampan", ".sampan/tmp", ".sampan/uploads", "blobs/sha512", ".sampan/lock"])
def test_nothing_is_written_where_a_link_in_a_layout_leads(tmp_path: Path, link: str) -> None:
    layout = make_layout(tmp_path / "images")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ("a" * 64)).touch()
    (layout / link).parent.mkdir(exist_ok=True)
    (layout / link).symlink_to(victim)

    assert "is a symbolic link" in fails("serve", layout, "--listen", "127.0.0.1:0")
    assert "is a symbolic link" in fails("gc", layout)
    assert [path.name for path in victim.iterdir()] == ["a" * 64]

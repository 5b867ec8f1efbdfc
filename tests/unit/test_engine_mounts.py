"""Binds, mounts, tmpfs and volumes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from sampan.engine.mounts import Wanted, inherit, name_volumes, parse_bind, parse_tmpfs, to_oci, volumes_from, wanted
from sampan.errors import InvalidInput, SampanError, Unsupported
from support.engine import HOST, completed


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/srv:/data", Wanted(type="bind", source="/srv", target="/data", create_source=True)),
        ("/srv/:/data/:ro", Wanted(type="bind", source="/srv", target="/data", readonly=True, mode="ro",
                                   create_source=True)),
        ("/srv:/data:ro,rslave,z", Wanted(type="bind", source="/srv", target="/data", readonly=True, mode="ro,rslave,z",
                                          propagation="rslave", create_source=True)),
        ("data:/data", Wanted(type="volume", name="data", target="/data", copy=True, mode="z")),
        ("data:/data:nocopy", Wanted(type="volume", name="data", target="/data", mode="nocopy")),
        ("/srv:/data:O", Wanted(type="bind", source="/srv", target="/data", mode="O", overlay="temporary")),
        ("data:/data:O,workdir=/w,upperdir=/u",
         Wanted(type="volume", name="data", target="/data", copy=True, mode="O,workdir=/w,upperdir=/u", overlay="kept",
                upperdir="/u", workdir="/w")),
        ("//srv:/data/../x", Wanted(type="bind", source="/srv", target="/x", create_source=True)),
    ],
)  # fmt: skip
def test_a_bind(text: str, mount: Wanted) -> None:
    assert parse_bind(text) == mount


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/data", "invalid volume specification"),
        ("a:b:c:d", "invalid volume specification"),
        (
            "/srv:data",
            "'/srv:data': invalid mount config for type \"bind\": invalid mount path: 'data' mount path",
        ),
        (
            "vol:data",
            "'vol:data': invalid mount config for type \"volume\": invalid mount path: 'data' mount path",
        ),
        ("/srv:/", "'/srv:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"),
        ("/srv:/data\0/..", "it contains a null byte"),
        ("/srv\0:/data", "it contains a null byte"),
        ("/srv:/data:rx", "invalid mode: rx"),
        ("/srv:/data:ro,rw", "invalid mode"),
        ("/srv:/data:nocopy", "invalid mode"),
        ("data:/data:rslave", "invalid mode"),
        ("/srv:/data:O,ro", "'/srv:/data:O,ro': can't use 'O' with other options"),
        ("/srv:/data:O,O", "can't use 'O' with other options"),
        ("/srv:/data:O,upperdir=/u", "must set both `upperdir` and `workdir`"),
        ("/srv:/data:O,upperdir=,workdir=/w", "'' is not an absolute path"),
        ("/srv:/data:upperdir=/u,workdir=/w", "invalid mode"),
        ("./srv:/data", "includes invalid characters for a local volume name"),
    ],
)
def test_a_bad_bind_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_bind(text)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_bind, lambda text: parse_tmpfs("/x", text)):
        try:
            parse(text)
        except SampanError as e:
            assert e.message  # noqa: PT017  # the other outcome is a value


def mount_of(**fields: Any) -> Wanted:
    return wanted(completed({"Mounts": [fields]}))[0]


def test_a_mount_of_type_bind_does_not_make_its_source() -> None:
    mount = mount_of(Type="bind", Source="/srv", Target="/data", ReadOnly=True)

    assert mount == Wanted(type="bind", source="/srv", target="/data", readonly=True)
    assert mount_of(Type="bind", Source="/s", Target="/d", BindOptions={"CreateMountpoint": True}).create_source


def test_a_mount_of_type_tmpfs() -> None:
    mount = mount_of(Type="tmpfs", Target="/t", TmpfsOptions={"SizeBytes": 1024, "Mode": 0o700})

    assert to_oci(mount, HOST).options == ("noexec", "nosuid", "nodev", "size=1024", "mode=700")


def test_tmpfs_may_be_executable() -> None:
    assert parse_tmpfs("/t", "exec,size=1m").options == ("nosuid", "nodev", "exec", "size=1m")


@pytest.mark.parametrize("options", ["size", "colour=red", "upperdir=/etc", "ro=1", "size="])
def test_a_bad_tmpfs_option_is_refused(options: str) -> None:
    with pytest.raises(InvalidInput, match="invalid tmpfs option"):
        parse_tmpfs("/t", options)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Type": "bind", "Target": "/d"}, "field Source must not be empty"),
        ({"Type": "bind", "Source": "/s"}, "field Target must not be empty"),
        ({"Type": "bind", "Source": "s", "Target": "/d"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/s", "Target": "d"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/s", "Target": "/"}, "destination can't be '/'"),
        ({"Type": "tmpfs", "Source": "/s", "Target": "/d"}, "field Source must not be specified"),
        ({"Type": "floppy", "Target": "/d"}, "mount type unknown"),
        ({"Type": "image", "Target": "/d"}, "field Source must not be empty"),
        (
            {"Type": "image", "Source": "i", "Target": "/d", "ImageOptions": {"Subpath": "../x"}},
            "subpath must be a relative path within the image: ../x",
        ),
        ({"Type": "bind", "Source": "/s", "Target": "/d", "TmpfsOptions": {"Mode": 1}}, "exactly one of"),
        ({"Type": "bind", "Source": "/s", "Target": "/d", "BindOptions": {"Propagation": "x"}}, "invalid propagation"),
    ],
)
def test_a_bad_mount_is_refused_in_dockers_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        mount_of(**fields)


def test_an_image_is_mounted_read_only_by_the_directories_of_its_layers() -> None:
    mount = mount_of(Type="image", Source="busybox", Target="/d", ImageOptions={"Subpath": "etc"})

    assert (mount.name, mount.subpath, mount.readonly) == ("busybox", "etc", True)
    several = to_oci(msgspec.structs.replace(mount, layers=("/top", "/base")), HOST)
    assert (several.type, several.options) == ("overlay", ("lowerdir+=/top", "lowerdir+=/base"))
    one = to_oci(msgspec.structs.replace(mount, layers=("/only",)), HOST)
    assert (one.type, one.source, one.options) == ("bind", "/only", ("bind", "ro"))


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("sampan.idmap:/d", "what", "invalid mode: what"),
        ("sampan.chown:/d", "yes", "invalid annotation sampan.chown:/d: 'yes'"),
        ("sampan.chown:/e", "true", "nothing is mounted at /e"),
        ("sampan.chown:/t", "true", "/t is neither a bind nor a volume"),
    ],
)
def test_an_annotation_of_a_mount_is_no_word_of_its_own(annotation: str, value: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        wanted(completed({"Binds": ["/a:/d"], "Tmpfs": {"/t": ""}, "Annotations": {annotation: value}}))


@pytest.mark.parametrize("type", ["npipe", "cluster"])
def test_mount_types_that_are_not_built_are_unsupported(type: str) -> None:
    with pytest.raises(Unsupported, match=f"unsupported: mount type {type}"):
        mount_of(Type=type, Source="x", Target="/d")


def test_two_mounts_at_one_place_are_refused() -> None:
    with pytest.raises(InvalidInput, match="Duplicate mount point: /data"):
        wanted(completed({"Binds": ["/a:/data"], "Mounts": [{"Type": "bind", "Source": "/b", "Target": "/data/"}]}))


def test_a_volume_of_the_image_is_anonymous_unless_something_else_is_mounted_there() -> None:
    mounts = wanted(completed({"Binds": ["/a:/data"]}, Volumes={"/data": {}, "/var/lib/x": {}}))

    assert [(m.target, m.type, m.anonymous) for m in mounts] == [
        ("/data", "bind", False),
        ("/var/lib/x", "volume", True),
    ]


def test_an_anonymous_volume_gets_a_name_and_every_volume_its_directory() -> None:
    named, anonymous = name_volumes(wanted(completed({"Binds": ["web:/a"]}, Volumes={"/b": {}})), "/volumes")

    assert named.source == "/volumes/web/_data"
    assert len(anonymous.name) == 64
    assert anonymous.source == f"/volumes/{anonymous.name}/_data"


def test_read_only_reaches_the_mounts_below_where_the_kernel_can() -> None:
    mount = Wanted(type="bind", source="/a", target="/b", readonly=True)

    assert to_oci(mount, HOST).options == ("rbind", "rro", "rprivate")


def test_a_bad_tmpfs_is_named_alone() -> None:
    with pytest.raises(InvalidInput, match=r"^invalid mount path: 'data' mount path must be absolute$"):
        parse_tmpfs("data", "")


def test_only_tmpfs_that_are_mounts_show_in_inspect() -> None:
    body = completed({"Tmpfs": {"/a": "size=1m"}, "Mounts": [{"Type": "tmpfs", "Target": "/b"}]})

    assert {mount.target: (mount.mode, mount.shown) for mount in wanted(body)} == {"/a": ("", False), "/b": ("", True)}


def test_a_volume_at_a_relative_path_is_of_the_root() -> None:
    assert [mount.target for mount in wanted(completed(Volumes={"data": {}}))] == ["/data"]


def test_what_is_had_from_several_containers_is_the_last_ones_and_stays_read_only() -> None:
    ro, rw = (Wanted(type="bind", source=source, target="/a", readonly=source == "/ro") for source in ("/ro", "/rw"))

    assert volumes_from("web:rw") == ("web", False)
    assert inherit([ro], readonly=volumes_from("web:rw")[1]) == [ro]
    assert wanted(completed(), [ro, rw]) == (rw,)
    assert wanted(completed(), [rw, *inherit([rw], readonly=True)])[0].readonly
    assert wanted(completed({"Binds": ["/own:/a"]}), [ro, rw])[0].source == "/own"

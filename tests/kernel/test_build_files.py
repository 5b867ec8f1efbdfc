"""COPY and ADD: what they take, where it goes and what the layer has; checked once against BuildKit 0.25 itself."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time

import pytest

from sampan.build import laying, selecting
from sampan.build.jobs import Item, Place
from sampan.errors import Failed, InvalidInput, NotFound, SampanError
from support.stepping import TIME_NS, File, Stepping, write

FILES = {
    "a": "a",
    "b": "b",
    "d/x": "x",
    "d/sub/y": "y",
    "e": None,
    "l": "-> a",
    "ld": "-> d",
    "out": "-> ../../../etc/passwd",
}
IMAGE = {
    "real/old": "1",
    "lnk": "-> /real",
    "dang": "-> /nothere",
    "fl": "-> real/old",
    "st": None,
    "etc/passwd": "root:x:0:0:r:/:/bin/sh\nbob:x:7:8:b:/:/bin/sh\n",
    "etc/group": "root:x:0:\nstaff:x:50:bob\n",
}


@pytest.fixture
def step(tmp_path):
    made = Stepping(tmp_path)
    write(made.context, FILES)
    write(made.image, IMAGE)
    os.chmod(made.context / "d/x", 0o640)
    os.chmod(made.image / "st", 0o1777)
    os.chown(made.context / "a", 5, 6)
    return made


def names(step):
    return sorted(step.files())


@pytest.mark.parametrize(
    ("sources", "destination", "files"),
    [
        ("a", "/new/a2", ["new", "new/a2"]),
        ("a", "/new/", ["new", "new/a"]),
        ("a", "/lnk", ["real", "real/a"]),
        ("a", "/lnk/z", ["real", "real/z"]),
        ("a", "/dang", ["nothere"]),
        ("a", "/fl", ["real", "real/old"]),
        ("a", "/../../x", ["x"]),
        ("d", "/n", ["n", "n/sub", "n/sub/y", "n/x"]),
        ("d/", "/lnk", ["real", "real/sub", "real/sub/y", "real/x"]),
        ("d a", "/n", ["n", "n/a", "n/sub", "n/sub/y", "n/x"]),
        ("l", "/n", ["n"]),
        ("l", "/n/", ["n", "n/l"]),
        ("ld", "/n", ["n", "n/sub", "n/sub/y", "n/x"]),
        ("ld/sub/../x", "/n/", ["n", "n/x"]),
        ("../a", "/n/", ["n", "n/a"]),
        ("*/x", "/n/", ["n", "n/x"]),
        ("[ab]", "/n/", ["n", "n/a", "n/b"]),
        ("nomatch* a", "/n/", ["n", "n/a"]),
        ("nomatch*", "/n/", []),
        ("e", "/n", ["n"]),
    ],
)
def test_sources_go_where_buildkit_puts_them(step, sources, destination, files) -> None:
    step.copy(sources, destination)

    assert names(step) == files


def test_links_below_a_source_stay_links_and_lead_nowhere(step) -> None:
    step.copy(".", "/n/")

    assert step.files()["n/out"] == File("link", 0o777, (0, 0), "../../../etc/passwd")


def test_a_link_out_of_the_context_leads_nowhere(step) -> None:
    with pytest.raises(NotFound, match='"/out": not found in the build context'):
        step.copy("out", "/n/")


def test_files_of_a_context_become_roots_and_keep_their_modes(step) -> None:
    step.copy("a d", "/n/")

    assert step.files()["n/a"].owner == (0, 0)
    assert step.files()["n/x"].mode == 0o640


def test_owners_are_kept_where_the_context_says_so(step) -> None:
    step.copy("a", "/n/", of={"keep_owners": True})

    assert step.files()["n/a"].owner == (5, 6)


def test_a_directory_that_was_there_stays_as_it_was_and_the_layer_tells_of_it(step) -> None:
    step.copy("d", "/st/deep/er")

    assert step.files()["st"].mode == 0o1777
    assert step.files()["st/deep"] == File("dir", 0o755, (0, 0), "")
    step.copy("d", "/st")
    assert step.files()["st"].mode == 0o1777


@pytest.mark.parametrize(
    ("owner", "expected"),
    [("7", (7, 7)), ("bob", (7, 8)), ("bob:staff", (7, 50)), (":staff", (0, 50)), ("3:root", (3, 0)), (":9", (0, 9))],
)
def test_chown_is_for_all_that_is_made(step, owner, expected) -> None:
    step.copy("d", "/n/m/", owner=owner)

    assert {file.owner for file in step.files().values()} == {expected}


@pytest.mark.parametrize("owner", ["nobody", "bob:nobody", "x:0", "4294967295", ":"])
def test_a_user_that_the_image_does_not_have_is_refused(step, owner) -> None:
    with pytest.raises(InvalidInput):
        step.copy("d", "/n/", owner=owner)
    assert not step.layer.exists()


def test_an_octal_chmod_is_for_what_is_taken_and_made_on_the_way(step) -> None:
    step.copy("a", "/n/m/a", mode="700")

    assert {file.mode for file in step.files().values()} == {0o700}


def test_a_symbolic_chmod_leaves_what_is_made_on_the_way_alone(step) -> None:
    step.copy("d", "/n", mode="u=rw,go=")

    assert [step.files()[name].mode for name in ("n", "n/sub", "n/x")] == [0o755, 0o600, 0o600]


def test_hard_links_of_a_source_stay_together(step) -> None:
    os.link(step.context / "d/x", step.context / "d/x2")

    step.copy("d", "/n")

    assert os.path.samefile(step.layer / "diff/n/x", step.layer / "diff/n/x2")


def test_a_hard_link_is_not_one_with_what_has_taken_the_place_of_the_first(step) -> None:
    os.link(step.context / "d/x", step.context / "d/z")
    write(step.context, {"later/x": "later"})

    step.copy("d later", "/n/")

    assert (step.files()["n/x"].content, step.files()["n/z"].content) == ("later", "x")


def test_attributes_pipes_and_times_are_kept(step) -> None:
    os.setxattr(step.context / "a", "user.colour", b"red")
    os.mkfifo(step.context / "e/p", 0o600)
    os.utime(step.context / "a", (1, 1))

    step.copy("a e", "/n/")

    assert os.getxattr(step.layer / "diff/n/a", "user.colour") == b"red"
    assert step.files()["n/p"].kind == "pipe"
    assert (step.layer / "diff/n/a").stat().st_mtime == 1


def test_a_socket_is_left_out_and_no_source(step) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(step.context / "e/s"))
        step.copy("e", "/n")
        assert names(step) == ["n"]
        with pytest.raises(NotFound):
            step.copy("e/s", "/n")


def test_times_end_at_the_newest_that_is_allowed(step) -> None:
    step.copy("a", "/n/", newest_ns=10**9)

    assert {(step.layer / "diff" / name).stat().st_mtime for name in ("n", "n/a")} == {1}


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("d/sub/y", ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
        ("./d/./sub/y", ["n", "n/sub", "n/sub/y"]),
        ("**/y", ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
        ("d/*/y", ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
        ("a", ["n", "n/a"]),
        ("d/sub", ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
    ],
)
def test_parents_are_kept_if_asked_for(step, source, files) -> None:
    step.copy(source, "/n/", of={"parents": True})

    assert names(step) == files


@pytest.mark.parametrize(
    ("sources", "exclude", "files"),
    [
        ("d", ("x",), ["n", "n/sub", "n/sub/y"]),
        ("d", ("**/y",), ["n", "n/sub", "n/x"]),
        ("d", ("*", "!sub/y"), ["n", "n/sub", "n/sub/y"]),
        ("d", ("sub",), ["n", "n/x"]),
        ("[ab]", ("a",), ["n", "n/b"]),
    ],
)
def test_what_is_excluded_is_not_taken(step, sources, exclude, files) -> None:
    step.copy(sources, "/n/", of={"exclude": exclude})

    assert names(step) == files


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        (("d",), ["n", "n/a", "n/b", "n/e", "n/l", "n/ld", "n/out"]),
        (("**", "!d/sub"), ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
        (("*", "!**/y"), ["n", "n/d", "n/d/sub", "n/d/sub/y"]),
        (("*", "!nothing/at/all"), ["n"]),
    ],
)
def test_what_is_ignored_is_not_there(step, patterns, files) -> None:
    step.copy(".", "/n/", of={"ignore": patterns})

    assert names(step) == files


def test_a_missing_source_says_so_and_what_may_have_been_meant(step) -> None:
    with pytest.raises(NotFound, match="can't COPY nope") as nothing:
        step.copy("nope", "/n/")
    with pytest.raises(NotFound) as near:
        step.copy("d/suub", "/n/")
    with pytest.raises(NotFound) as ignored:
        step.copy("d/x", "/n/", of={"ignore": ("**/x",)})
    with pytest.raises(NotFound) as outside:
        step.copy("../../etc/passwd", "/n/")

    assert not nothing.value.hint
    assert near.value.hint == "did you mean d/sub?"
    assert ignored.value.hint == "its .dockerignore leaves it out"
    assert outside.value.hint == "a path does not lead out of the build context"


@pytest.mark.parametrize(
    ("sources", "destination", "text"),
    [
        ("a", "/real/old/", "it is no directory"),
        ("a", "/real/old/x", "it is no directory"),
        ("d", "/real/old", "it is no directory"),
        ("clash", "/", "is a directory"),
        ("link", "/", "is no directory"),
        ("a b", "/n", "the destination must be a directory and end with a /"),
        ("[a", "/n/", "syntax error in pattern"),
    ],
)
def test_what_cannot_be_put_there_is_refused(step, sources, destination, text) -> None:
    write(step.context, {"clash/st": "", "link/lnk/x": ""})

    with pytest.raises(SampanError, match=text):
        step.copy(sources, destination)
    assert not step.layer.exists()


def test_names_that_are_marks_of_layers_are_refused(step) -> None:
    write(step.context, {"w/.wh.x": None, "v/.wh.y": ""})

    for source in ("w", "v"):
        with pytest.raises(InvalidInput, match=r"names that begin with \.wh\."):
            step.copy(source, "/n/")


def test_a_linked_step_looks_at_nothing_of_the_image(step) -> None:
    step.copy("a", "/lnk/deep/", link=True)

    assert names(step) == ["lnk", "lnk/deep", "lnk/deep/a"]


def test_a_heredoc_is_a_file(step) -> None:
    step.lay((Item(file=("f", b"text")),), "/n/", owner="bob", mode="600")

    assert step.files()["n/f"] == File("file", 0o600, (7, 8), "text")


def test_no_sources_make_a_directory(step) -> None:
    step.lay((), "/lnk/w/x/", verb="WORKDIR")

    assert names(step) == ["real", "real/w", "real/w/x"]
    assert (step.layer / "diff/real/w").stat().st_mtime_ns == TIME_NS


def test_a_link_in_a_stage_is_followed_inside_it(step) -> None:
    write(step.image, {"abs": "-> /real/old"})
    place = step.item().place
    stage = Item(place=type(place)(layers=step.parent), sources=("/abs", "lnk/old"))

    step.lay((stage,), "/n/")

    assert (step.files()["n/abs"].content, step.files()["n/old"].content) == ("1", "1")


# ---------------------------------------------------------------------------------------------------- archives


def archive(path, members, mode="w"):
    with tarfile.open(path, mode) as made:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, 5, 6, 0o644 if kind == tarfile.REGTYPE else 0o755
            data = b""
            if kind == tarfile.REGTYPE:
                data = value.encode()
                info.size = len(data)
            else:
                info.linkname = value
            made.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_unpacked_by_add_with_its_owners(step, mode) -> None:
    archive(step.context / "t", [("s/", tarfile.DIRTYPE, ""), ("s/f", tarfile.REGTYPE, "f")], mode)

    step.copy("t", "/lnk", of={"unpack": True}, verb="ADD")

    assert step.files()["real/s/f"] == File("file", 0o644, (5, 6), "f")
    assert step.files()["real"].owner == (0, 0)


def test_copy_does_not_unpack_and_add_takes_what_is_no_archive_as_it_is(step) -> None:
    archive(step.context / "t", [("f", tarfile.REGTYPE, "f")])

    step.lay((step.item("t"), step.item("a", unpack=True)), "/n/")

    assert names(step) == ["n", "n/a", "n/t"]


def test_links_on_an_archives_way_are_followed_inside_the_destination(step) -> None:
    write(step.image, {"root/lib": "-> /usr/lib", "root/up": "-> ../../.."})
    archive(step.context / "t", [("lib/f", tarfile.REGTYPE, "f"), ("up/g", tarfile.REGTYPE, "g")])

    step.copy("t", "/root", of={"unpack": True})

    assert names(step) == ["root", "root/g", "root/usr", "root/usr/lib", "root/usr/lib/f"]


def test_an_archive_replaces_what_is_in_its_way(step) -> None:
    members = [("st", tarfile.REGTYPE, "file"), ("dang", tarfile.DIRTYPE, ""), ("dang/f", tarfile.REGTYPE, "f")]
    archive(step.context / "t", [*members, ("real/new", tarfile.REGTYPE, "n"), ("real", tarfile.SYMTYPE, "st")])

    step.copy("t", "/", of={"unpack": True})

    assert {name: step.files()[name].kind for name in names(step)} == {
        "dang": "dir",
        "dang/f": "file",
        "real": "link",
        "st": "file",
    }


def test_a_hard_link_of_an_archive_may_be_to_what_the_image_has(step) -> None:
    members = [("f", tarfile.REGTYPE, "f"), ("g", tarfile.LNKTYPE, "f"), ("h", tarfile.LNKTYPE, "old")]
    archive(step.context / "t", members)

    step.copy("t", "/real", of={"unpack": True})

    assert os.path.samefile(step.layer / "diff/real/f", step.layer / "diff/real/g")
    assert step.files()["real/h"].content == "1"


@pytest.mark.parametrize(
    "members",
    [
        [("../x", tarfile.REGTYPE, "x")],
        [("a/../../x", tarfile.REGTYPE, "x")],
        [("h", tarfile.LNKTYPE, "../../etc/passwd")],
        [("h", tarfile.LNKTYPE, "nothing")],
        [(".wh.old", tarfile.REGTYPE, "")],
        [("x", tarfile.SYMTYPE, "x"), ("x/y", tarfile.REGTYPE, "y")],
        [("x", tarfile.REGTYPE, "x"), ("x/y", tarfile.REGTYPE, "y")],
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(step, members) -> None:
    archive(step.context / "t", members)

    with pytest.raises(InvalidInput):
        step.copy("t", "/n/", of={"unpack": True})
    assert not step.layer.exists()


def test_a_later_source_replaces_what_an_archive_has_brought(step) -> None:
    archive(step.context / "t", [("a", tarfile.REGTYPE, "from the archive"), ("d/", tarfile.DIRTYPE, "")])

    step.lay((step.item("t", "a", unpack=True),), "/n/")

    assert step.files()["n/a"].content == "a"


# ------------------------------------------------------------------------------------------------------ digests


def test_a_selections_digest_is_that_of_its_layer(step) -> None:
    os.link(step.context / "d/x", step.context / "d/x2")
    os.setxattr(step.context / "a", "user.colour", b"red")
    items = (step.item(".", ignore=("b",)), Item(file=("f", b"text")))

    assert step.select(*items).digest == step.lay(items, "/n/").digest


@pytest.mark.parametrize(
    "change",
    [
        lambda d: (d / "d/x").write_text("z"),
        lambda d: (d / "d/x").chmod(0o600),
        lambda d: (d / "d/sub").chmod(0o700),
        lambda d: (d / "d/x").rename(d / "d/w"),
        lambda d: os.setxattr(d / "d/x", "user.colour", b"red"),
        lambda d: (d / "d/new").mkdir(),
        lambda d: os.link(d / "d/x", d / "d/x2"),
    ],
)
def test_what_a_layer_would_have_changes_the_digest(step, change) -> None:
    before = step.select(step.item("d")).digest
    change(step.context)

    assert step.select(step.item("d")).digest != before


def test_times_owners_and_what_is_not_taken_do_not_change_the_digest(step) -> None:
    before = step.select(step.item("d", ignore=("**/junk",))).digest
    os.utime(step.context / "d/x", (1, 1))
    os.chown(step.context / "d/x", 9, 9)
    os.chmod(step.context / "d", 0o700)
    write(step.context, {"d/junk": "", "other": ""})

    assert step.select(step.item("d", ignore=("**/junk",))).digest == before


def test_a_file_that_is_unchanged_is_not_read_again(step, monkeypatch) -> None:
    while time.time_ns() - (step.context / "d/x").stat().st_ctime_ns < 60_000_000:
        time.sleep(0.01)
    before = step.select(step.item("d")).digest
    monkeypatch.setattr("sampan.build.manifest.digest_of", lambda *_: pytest.fail("read again"))

    assert step.select(step.item("d")).digest == before


def test_a_digest_that_could_be_overtaken_within_a_tick_is_not_remembered(step) -> None:
    (step.context / "d/x").write_text("1")
    before = step.select(step.item("d")).digest
    (step.context / "d/x").write_text("2")

    assert step.select(step.item("d")).digest != before


def test_a_file_that_changes_while_it_is_copied_is_not_taken_for_what_it_was(step, monkeypatch) -> None:
    items = (step.item("d"),)
    selected = step.select(*items)
    take = laying.take

    def taking(*arguments, **how):
        taken = take(*arguments, **how)
        (step.context / "d/x").write_text("changed meanwhile")
        return taken

    monkeypatch.setattr(laying, "take", taking)

    assert step.lay(items, "/n").digest != selected.digest
    assert step.files()["n/x"].content == "changed meanwhile"


def test_another_directory_than_the_client_saw_is_refused(step) -> None:
    item = step.item("a")
    place = type(item.place)(directory=str(step.context), identity=(1, 2))

    with pytest.raises(Failed, match="is another directory here"):
        step.select(Item(place=place, sources=("a",)))


def test_deep_trees_and_endless_links_are_no_trouble(step) -> None:
    deep = "/".join("x" for _ in range(1500))
    os.makedirs(step.context / deep[:1000])
    write(step.context, {"r1": "-> r2", "r2": "-> r1"})

    step.copy("x", "/n/")
    with pytest.raises(InvalidInput, match="too many links"):
        step.copy("r1/x", "/n/")


# ------------------------------------------------------------------------------------------ what is selected at once


@pytest.mark.parametrize("sources", [(".",), ("d",), ("a", "d/*"), ("*/sub",), ("nothing*",)])
def test_a_few_files_are_selected_without_a_worker(step, sources) -> None:
    assert selecting.is_small([step.item(*sources), Item(file=("f", b"text"))])


@pytest.mark.parametrize("sources", [("a", "many"), ("ma*",), ("large",), ("ld",), ("ld/x",), ("out",), ("nosuch",)])
def test_many_files_large_ones_and_what_a_link_leads_to_are_not(step, sources) -> None:
    write(step.context, {f"many/{number}": "" for number in range(selecting.MOST_FILES)})
    (step.context / "large").write_bytes(bytes(selecting.MOST_BYTES + 1))

    assert not selecting.is_small([step.item(*sources)])


def test_what_an_image_has_is_not_small(step) -> None:
    assert not selecting.is_small([Item(place=Place(layers=step.parent), sources=("real",))])

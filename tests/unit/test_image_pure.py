"""The parts of image that touch nothing: compression, challenges, credentials, removal, manifests."""

import base64
import bz2
import gzip
import io
import json
import lzma
import zlib

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from sampan.errors import Conflict, InvalidInput, Unsupported
from sampan.image import auth, challenge, compression
from sampan.image.address import is_loopback
from sampan.image.compression import decompressed
from sampan.image.extract import split
from sampan.image.removal import Decision, decide
from sampan.spec.distribution import (
    AuthConfig,
    Descriptor,
    Index,
    Manifest,
    MediaType,
    Platform,
    check_layer_type,
    choose,
    decode_manifest,
)
from sampan.spec.image import Use, decode_config
from sampan.spec.reference import Reference

CONTENT = b"".join(b"%d " % number for number in range(200_000))
COMPRESSORS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "none": bytes,
}


class Trickle:
    """A stream that gives few bytes at a time, as sockets do."""

    def __init__(self, data):
        self.stream = io.BytesIO(data)

    def read(self, size):
        return self.stream.read(min(size, 1234))


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_compression_is_known_by_its_first_bytes(kind):
    assert b"".join(decompressed(Trickle(COMPRESSORS[kind](CONTENT)))) == CONTENT


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_several_members_are_one_stream(kind):
    data = COMPRESSORS[kind](CONTENT[:1000]) + COMPRESSORS[kind](CONTENT[1000:])

    assert b"".join(decompressed(Trickle(data))) == CONTENT


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_cut_stream_is_an_error(kind):
    with pytest.raises(InvalidInput, match=f"can't decompress {kind} data: it is cut short"):
        list(decompressed(io.BytesIO(COMPRESSORS[kind](CONTENT)[:-20])))


def gzipped(flags, content):
    """A member with the optional fields that RFC 1952 has."""
    raw = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\x03"
    header += b"\x05\0extra" * bool(flags & 4) + b"name\0" * bool(flags & 8) + b"comment\0" * bool(flags & 16)
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    trailer = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return header + raw.compress(content) + raw.flush() + trailer


@pytest.mark.parametrize("library", ["ISA-L", "zlib"])
@pytest.mark.parametrize("flags", range(32))
def test_every_header_that_gzip_may_have_is_read_however_it_comes(monkeypatch, library, flags):
    if library == "zlib":
        monkeypatch.setattr(compression, "isal_zlib", None)
    data = gzipped(flags, CONTENT[:3000]) + gzipped(flags, CONTENT[:3000])

    for stream in (io.BytesIO(data), Trickle(data)):
        assert b"".join(decompressed(stream)) == CONTENT[:3000] * 2


@pytest.mark.parametrize("place", [-1, -8])
def test_a_gzip_member_whose_checksum_or_length_is_wrong_is_refused(place):
    data = bytearray(gzip.compress(CONTENT))
    data[place] ^= 1

    with pytest.raises(InvalidInput, match="can't decompress gzip data"):
        list(decompressed(io.BytesIO(data)))


def test_zeros_after_the_last_gzip_member_are_padding_and_others_are_not():
    data = gzip.compress(CONTENT)

    assert b"".join(decompressed(io.BytesIO(data + bytes(1000)))) == CONTENT
    with pytest.raises(InvalidInput, match="can't decompress gzip data"):
        list(decompressed(io.BytesIO(data + b"junk")))


def test_a_gzip_bomb_comes_in_small_pieces():
    state = zlib.compressobj(9, wbits=31)
    data = state.compress(bytes(100 << 20)) + state.flush()

    assert max(map(len, decompressed(io.BytesIO(data)))) <= 1 << 20


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://auth.docker.io/token", "service": "registry.docker.io",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('Basic realm="a \\"b\\""', [("basic", {"realm": 'a "b"'})]),
        ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Digest a="1", Bearer realm=y , b = "z"', [("digest", {"a": "1"}), ("bearer", {"realm": "y", "b": "z"})]),
        ("", []),
        ("=,;", []),
    ],
)  # fmt: skip
def test_challenges_are_taken_apart(header, expected):
    assert [(found.scheme, found.parameters) for found in challenge.parse(header)] == expected


@given(st.text(max_size=200))
def test_any_challenge_is_read_in_time(header):
    challenge.parse(header)


def write_config(directory, **content):
    (directory / "config.json").write_text(json.dumps(content))
    return str(directory)


PAIR = base64.b64encode(b"me:pa:ss").decode()


@pytest.mark.parametrize("key", ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v2/"])
def test_credentials_are_found_under_every_spelling_of_a_registry(tmp_path, key):
    directory = write_config(tmp_path, auths={key: {"auth": PAIR}}, psFormat="x")

    assert auth.find("r.example:5000", directory=directory) == AuthConfig(username="me", password="pa:ss")
    assert auth.find("r.example", directory=directory) is None


def test_docker_hub_has_a_name_of_its_own(tmp_path):
    directory = write_config(tmp_path, auths={"https://index.docker.io/v1/": {"auth": PAIR}})

    assert auth.find("docker.io", directory=directory) == AuthConfig(username="me", password="pa:ss")


def test_no_configuration_means_nobody(tmp_path):
    assert auth.find("docker.io", directory=str(tmp_path / "none")) is None
    assert auth.find("docker.io", directory=write_config(tmp_path)) is None


def test_a_helper_is_asked_as_its_protocol_says(tmp_path, monkeypatch):
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread server\n[ "$1" = get ] || exit 2\ncase $server in\n'
        'a.example) echo \'{"ServerURL":"a.example","Username":"u","Secret":"s"}\' ;;\n'
        'b.example) echo \'{"Username":"<token>","Secret":"t"}\' ;;\n'
        "*) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    directory = write_config(tmp_path, credsStore="test", credHelpers={"c.example": "missing"})

    assert auth.find("a.example", directory=directory) == AuthConfig(username="u", password="s")
    assert auth.find("b.example", directory=directory) == AuthConfig(identity_token="t")
    assert auth.find("d.example", directory=directory) is None
    with pytest.raises(Exception, match="can't run docker-credential-missing"):
        auth.find("c.example", directory=directory)


def test_a_helper_is_a_name_and_no_path(tmp_path):
    with pytest.raises(InvalidInput, match="no program's name"):
        auth.find("a", directory=write_config(tmp_path, credsStore="../../evil"))


def header(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def test_the_apis_header_is_read():
    assert auth.from_header(header({"username": "u", "password": "p"})) == AuthConfig(username="u", password="p")
    assert auth.from_header(header({"identitytoken": "t"})) == AuthConfig(identity_token="t")
    assert auth.from_header(header({})) is None
    assert auth.from_header("") is None
    with pytest.raises(InvalidInput, match="X-Registry-Auth"):
        auth.from_header("!!")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1:5000", True), ("127.9.9.9", True), ("localhost", True), ("localhost:1", True), ("[::1]:5", True),
     ("::1", True), ("example.com", False), ("10.0.0.1:5000", False), ("localhost.evil.example", False),
     ("0.0.0.0", False)],
)  # fmt: skip
def test_only_the_loopback_is_spoken_to_in_plain_http(host, expected):
    assert is_loopback(host) is expected


ID = "sha256:" + "1" * 64
A1, A2, B1 = (Reference.parse(name) for name in ("a:1", "a:2", "b:1"))
AD = A1.with_digest("sha256:" + "2" * 64)
RUNNING, STOPPED = Use("c" * 64, running=True), Use("c" * 64, running=False)


@pytest.mark.parametrize(
    ("references", "uses", "named", "force", "expected"),
    [
        ([A1], [], A1, False, Decision((A1,), delete=True)),
        ([A1, B1], [], A1, False, Decision((A1,), delete=False)),
        ([A1, A2, AD], [], A1, False, Decision((A1,), delete=False)),
        ([A1, AD], [], A1, False, Decision((A1, AD), delete=True)),
        ([A1, AD, B1], [], A1, False, Decision((A1, AD), delete=False)),
        ([A1], [], None, False, Decision((A1,), delete=True)),
        ([A1, AD], [], None, False, Decision((A1, AD), delete=True)),
        ([A1, B1], [], None, True, Decision((A1, B1), delete=True)),
        ([], [], None, False, Decision((), delete=True)),
        ([A1], [STOPPED], A1, True, Decision((A1,), delete=True)),
        ([A1, B1], [RUNNING], A1, False, Decision((A1,), delete=False)),
        ([A1, AD], [RUNNING], A1, True, Decision((A1, AD), delete=False)),
        ([A1, B1], [STOPPED], None, True, Decision((A1, B1), delete=True)),
        ([A1, AD], [], AD, False, Decision((AD,), delete=False)),
        ([AD], [], AD, False, Decision((AD,), delete=True)),
        ([AD, B1], [STOPPED], AD, False, Decision((AD,), delete=False)),
    ],
)
def test_names_go_before_images(references, uses, named, force, expected):
    assert decide(ID, references, uses, named=named, force=force) == expected


@pytest.mark.parametrize(
    ("references", "uses", "named", "force", "message"),
    [
        (
            [A1, B1],
            [],
            None,
            False,
            r"unable to delete 111111111111 \(must be forced\) - image is referenced in multiple",
        ),
        (
            [A1],
            [STOPPED],
            A1,
            False,
            r'unable to remove repository reference "a:1" \(must force\) - container cccccccccccc',
        ),
        ([A1], [STOPPED], None, False, r"\(must be forced\) - image is being used by stopped container cccccccccccc"),
        ([A1], [RUNNING], None, True, r"\(cannot be forced\) - image is being used by running container cccccccccccc"),
        ([A1, B1], [RUNNING], None, False, r"\(cannot be forced\) - image is being used by running container"),
    ],
)
def test_what_is_in_use_stays(references, uses, named, force, message):
    with pytest.raises(Conflict, match=message):
        decide(ID, references, uses, named=named, force=force)


def test_one_is_told_how_an_image_with_names_elsewhere_is_removed():
    with pytest.raises(Conflict) as caught:
        decide(ID, [A1, B1], [], named=None, force=False)

    assert "--force" in caught.value.hint


def test_a_parent_stays_without_a_name_but_goes_by_its_id():
    assert decide(ID, [A1, AD], [], named=A1, force=False, parent=True) == Decision((A1, AD), delete=False)
    assert decide(ID, [A1, AD], [], named=None, force=False, parent=True) == Decision((A1, AD), delete=True)


def test_a_name_that_can_not_go_is_repeated_as_it_was_typed():
    with pytest.raises(Conflict, match='repository reference "a" '):
        decide(ID, [A1], [STOPPED], named=A1, force=False, typed="a")


def entry(text, digest="0"):
    platform = Platform.parse(text) if text else None
    return Descriptor(media_type=MediaType.OCI_MANIFEST, digest=digest, size=1, platform=platform)


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", 1),
        (["windows/amd64", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 1),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", 1),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v3", 1),
        (["linux/386"], "linux/amd64", 0),
        (["linux/s390x"], "linux/amd64", None),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", 1),
        ([None], "linux/amd64", 0),
        ([], "linux/amd64", None),
    ],
)
def test_the_platform_that_runs_best_is_chosen(offered, wanted, chosen):
    entries = [entry(text, str(number)) for number, text in enumerate(offered)]

    found = choose(entries, Platform.parse(wanted))

    assert found == (entries[chosen] if chosen is not None else None)


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "//amd64", "bogus", "linux"])
def test_bad_platforms_are_refused(text):
    with pytest.raises(InvalidInput):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("text", "machine", "platform"),
    [
        ("linux", "x86_64", "linux/amd64"),
        ("linux", "aarch64", "linux/arm64/v8"),
        ("windows", "x86_64", "windows/amd64"),
        ("arm64", "x86_64", "linux/arm64/v8"),
    ],
)
def test_a_system_alone_is_of_this_machines_architecture(text, machine, platform):
    assert str(Platform.parse(text, machine)) == platform


def document(**fields):
    return json.dumps({"schemaVersion": 2, **fields}).encode()


DESCRIPTOR = {"mediaType": MediaType.OCI_CONFIG, "digest": "sha256:" + "0" * 64, "size": 1}


def test_manifests_and_indexes_are_told_apart_by_what_they_have():
    assert isinstance(decode_manifest(document(config=DESCRIPTOR, layers=[])), Manifest)
    assert isinstance(decode_manifest(document(manifests=[DESCRIPTOR])), Index)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (document(config=DESCRIPTOR, layers=[], manifests=[]), None),
        (document(manifests=[], layers=[]), None),
        (document(config=DESCRIPTOR, layers=[], mediaType=MediaType.OCI_INDEX), None),
        (document(manifests=[]), MediaType.OCI_MANIFEST),
        (document(manifests=[], mediaType=MediaType.OCI_INDEX), MediaType.DOCKER_LIST),
        (document(), None),
        (b"[]", None),
        (b"{", None),
        (document(config=DESCRIPTOR, layers=[{**DESCRIPTOR, "size": "1"}]), None),
    ],
)
def test_ambiguous_and_broken_manifests_are_refused(data, media_type):
    with pytest.raises(InvalidInput):
        decode_manifest(data, media_type)


def test_schema_1_is_named():
    with pytest.raises(Unsupported, match="schema 1"):
        decode_manifest(json.dumps({"schemaVersion": 1, "fsLayers": []}).encode())


@pytest.mark.parametrize(
    "media_type",
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
     "application/vnd.oci.image.layer.nondistributable.v1.tar",
     "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "text/plain"],
)  # fmt: skip
def test_foreign_and_unknown_layers_are_refused(media_type):
    with pytest.raises(Unsupported):
        check_layer_type(Descriptor(media_type=media_type, digest="sha256:0", size=1))


def test_a_configuration_may_have_null_for_everything():
    config = decode_config(
        b'{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Entrypoint":null,"Volumes":null,'
        b'"Labels":null,"OnBuild":null,"ExposedPorts":null,"Unknown":1},"rootfs":{"type":"layers","diff_ids":null},'
        b'"history":null,"container":"x"}'
    )

    assert config.diff_ids == ()
    assert config.execution.env is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"rootfs":{"type":"base"}}', b'{"rootfs":{"diff_ids":[1]}}'])
def test_a_broken_configuration_is_named(data):
    with pytest.raises(InvalidInput, match="image configuration"):
        decode_config(data)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a", (b"", b"a")),
        (b"./a/b/", (b"a", b"b")),
        (b"/a/b", (b"a", b"b")),
        (b"a//./b/../c", (b"a", b"c")),
        (b".", (b"", b"")),
        (b"./", (b"", b"")),
        (b"/", (b"", b"")),
        (b"a/.b", (b"a", b".b")),
        (b"..a/...", (b"..a", b"...")),
    ],
)
def test_names_of_members_are_taken_apart(name, expected):
    assert split(name) == expected


@pytest.mark.parametrize("name", [b"..", b"../a", b"/../a", b"a/../../b", b"./../a", b"a/b/../../../c"])
def test_names_that_climb_out_are_refused(name):
    with pytest.raises(InvalidInput, match="leads out"):
        split(name)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b.", b"..."]), max_size=8).map(b"/".join))
def test_no_name_has_dots_left(name):
    try:
        parent, last = split(name)
    except InvalidInput:
        return
    assert not {b"..", b"."} & {*parent.split(b"/"), last}

"""What reads input of strangers, each with inputs to begin with. A target may raise SampanError and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from sampan.errors import SampanError
from sampan.http11.channel import Channel, ClientGone
from sampan.image import archive_read, challenge, tar
from sampan.image.archive_write import ArchiveWriter
from sampan.image.compression import decompressed
from sampan.image.layout import Layout
from sampan.image.recipe import tar_of
from sampan.image.referrers import read_index
from sampan.image.refusals import errors_of
from sampan.image.transfer import Choice, copy
from sampan.image.unpack import unpack_layer
from sampan.network import dns, names
from sampan.registry.access import Open
from sampan.registry.call import Policy
from sampan.registry.log import Log
from sampan.registry.server import PATIENCE, Registry
from sampan.registry.store import open_store
from sampan.spec.distribution import Descriptor, decode_manifest
from sampan.spec.image import LayerLimits, decode_config
from sampan.spec.location import Location, Transport
from sampan.spec.reference import Reference
from support import dockerfiles, tars
from support.image_store import tarball
from support.layouts import HandMade, Out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DIGEST = "sha256:" + "0a" * 32


class Target(NamedTuple):
    """A reader, inputs to begin with, and pieces that are worth inserting."""

    run: Callable[[bytes], None]
    seeds: Iterable[bytes]
    words: tuple[bytes, ...] = ()
    mend: Callable[[bytearray], None] | None = None  # makes checksums right again, so that a change gets further
    root: bool = False  # it makes files as only root may


def read_tar(data: bytes) -> None:
    """All members, and the parts that `body` doesn't give, are the archive."""
    others: list[bytes] = []
    reader = tar.Reader((data[start : start + 700] for start in range(0, len(data), 700)), others.append)
    while reader.next_entry() is not None:
        others += [bytes(piece) for piece in reader.body()]
    reader.drain()
    assert b"".join(others) == data, "bytes are lost"


def read_reference(data: bytes) -> None:
    """What is accepted is read again from its own text as the same."""
    reference = Reference.parse(data.decode("latin-1"))
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference


def read_location(data: bytes) -> None:
    """What is accepted is read again from its own text as the same."""
    location = Location.parse(data.decode("latin-1"))
    assert Location.parse(str(location)) == location


def ask_for_name(data: bytes) -> None:
    """A container's query: it is answered, refused or passed on, and what another server says to it is told apart."""
    try:
        query = dns.read_query(data)
    except SampanError:
        dns.malformed(data)
        raise
    if query is None:
        return
    assert dns.is_answer(dns.answer(query), query.id, query)
    sent = dns.forwarded(query, data, 1)
    assert len(sent) == len(data)
    assert dns.read_query(sent) is not None
    dns.is_answer(b"\0\1\x80" + data[3:], 1, query)
    names.find(_NAMES, names.read_head(_NAMES), query.name)
    names.find_reverse(_NAMES, names.read_head(_NAMES), query.name)
    names.read_head(data)


class _Nowhere:
    """A sink that reads everything and keeps nothing."""

    at_once = 1
    holds_indexes = True

    def find(self, blob: object, origins: object = ()) -> None:
        """Nothing is here."""

    def put_blob(self, open: Callable[[int], Iterator[bytes]], digest: str | None, size: int | None) -> Descriptor:
        return Descriptor(media_type="", digest=digest or DIGEST, size=size or sum(map(len, open(0))))

    def put_manifest(self, document: object) -> None:
        """It is read already."""

    finish = put_manifest


def copy_archive(data: bytes) -> None:
    """All that an archive has, read as either kind."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        with open(f"{scratch}/a", "wb") as file:
            file.write(data)
        for transport in (Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE):
            for name in ("", "@0", "app:1"):
                with contextlib.suppress(SampanError):
                    with archive_read.opened(Location(transport, f"{scratch}/a", name), scratch) as archive:
                        copy(archive, _Nowhere(), Choice(), lambda _: None)  # type: ignore[arg-type]


def _image_archive() -> bytes:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        layout = HandMade(Path(scratch) / "layout")
        layout.name(layout.image(tarball(a=b"content")), "x")
        out = Out()
        writer = ArchiveWriter(out, docker=True, scratch=scratch)
        sink = writer.image([Reference.parse("app:1")])
        copy(Layout.opened(str(layout.path)), sink, Choice(), lambda _: None)
        writer.close()
        return out.getvalue()


def read_manifest(data: bytes) -> None:
    decode_manifest(data)


def read_config(data: bytes) -> None:
    config = decode_config(data)
    assert config.execution is not None
    assert config.diff_ids is not None


def read_challenge(data: bytes) -> None:
    for found in challenge.parse(data.decode("latin-1")):
        assert found.scheme


def read_refusal(data: bytes) -> None:
    for error in errors_of(data):
        assert str(error) is not None


def read_list(data: bytes) -> None:
    read_index(data)


def decompress(data: bytes) -> None:
    size = 0
    for piece in decompressed(io.BytesIO(data)):
        size += len(piece)
        if size > 1 << 24:
            break


def unpack(data: bytes) -> None:
    """Unpack a layer: nothing outside it, nothing left of a refused one, and an accepted one is written again."""
    base = _scratch()
    try:
        os.mkdir(f"{base}/outside")
        with open(f"{base}/data", "w+b") as file:
            file.write(data)
            file.seek(0)
            try:
                unpack_layer(
                    file.fileno(), f"{base}/layer", diff_id=_diff_id(data), limits=LayerLimits(max_layer_bytes=1 << 30)
                )
            except SampanError:
                assert not os.path.exists(f"{base}/layer"), "something is left of a refused layer"
                raise
            assert b"".join(tar_of(f"{base}/layer")) == data, "it is not written again as it was"
    finally:
        assert sorted(set(os.listdir(base)) - {"layer"}) == ["data", "outside"], "something is outside of the layer"
        assert os.listdir(f"{base}/outside") == [], "something is outside of the layer"
        shutil.rmtree(base)


def follow_recipe(data: bytes) -> None:
    """A recipe that somebody changed gives an error, never what is outside of the layer."""
    base = _scratch()
    try:
        with open(f"{base}/data", "w+b") as file:
            file.write(_LAYER)
            file.seek(0)
            unpack_layer(file.fileno(), f"{base}/layer")
        with open(f"{base}/layer/recipe", "wb") as file:
            file.write(zstandard.compress(data))
        size = 0
        for piece in tar_of(f"{base}/layer"):
            size += len(piece)
            assert b"root:x:" not in piece, "it read what is outside of the layer"
            if size > 1 << 24:
                break
    finally:
        shutil.rmtree(base)


def serve_registry(data: bytes) -> None:
    """Whatever a client sends is answered, and what is then in the directory is what its name says."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as base:
        store = open_store(f"{base}/data")
        server = Registry(store, Policy(), Open(), Log(quiet=True))
        ours, client = socket.socketpair()
        with client:
            client.sendall(data[:65536])
            client.shutdown(socket.SHUT_WR)
            client.settimeout(10)
            channel = Channel(ours, "", PATIENCE)
            try:
                server.serve(channel)
            except ClientGone:
                pass
            channel.close()
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert b"HTTP/1.1 500" not in answer, answer
        assert os.listdir(base) == ["data"]
        for digest, entry in store.blobs.all():
            with open(entry.path, "rb") as file:
                assert f"{hashlib.file_digest(file, digest[:6]).hexdigest()}" == entry.name


def _requests() -> list[bytes]:
    """Two pushes and what else there is to ask, each as one connection's bytes."""
    blob = _diff_id(b"{}")
    manifest = _json({**_MANIFEST, "config": {"mediaType": "a/b", "digest": blob, "size": 2}, "layers": []})
    kind = "application/vnd.oci.image.manifest.v1+json"

    def request(line: str, body: bytes = b"", *headers: str) -> bytes:
        lines = (f"{line} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers)
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    push = request(f"POST /v2/a/blobs/uploads/?digest={blob}", b"{}")
    put = request("PUT /v2/a/manifests/v1", manifest, f"Content-Type: {kind}")
    chunked = "POST /v2/a/blobs/uploads/?digest=" + blob + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [
        push + put + request("GET /v2/a/tags/list?n=1&last=a") + request("DELETE /v2/a/manifests/v1"),
        push + request(f"GET /v2/a/blobs/{blob}", b"", "Range: bytes=0-0", 'If-None-Match: "x"'),
        push + request(f"POST /v2/b/blobs/uploads/?mount={blob}&from=a") + request("GET /v2/_catalog"),
        chunked.encode() + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n" + request("HEAD /v2/a/blobs/" + blob),
        push + put + request(f"GET /v2/a/referrers/{blob}?artifactType=x") + request(f"DELETE /v2/a/blobs/{blob}"),
        request("POST /v2/a/blobs/uploads/") + request("PATCH /v2/a/blobs/uploads/" + "0" * 48, b"x"),
    ]


_HTTP_WORDS = (
    *(
        b"\r\n",
        b"..",
        b"/",
        b"%2f",
        b"%00",
        b"?",
        b"&digest=",
        b"a" * 300,
        b"Content-Range: 0-1\r\n",
        b"HEAD",
        b"PATCH",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"sha512:", b"_tags", b"sha256:..", b"\xff"),
)


def _scratch() -> str:
    return tempfile.mkdtemp(prefix="sampan-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def _diff_id(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _mend_headers(data: bytearray) -> None:
    for start in range(0, len(data) - 511, 512):
        header = data[start : start + 512]
        if header[257:262] == b"ustar" or header[148:156].strip(b" \0").isdigit():
            data[start : start + 512] = tars.signed(header)


def _record(kind: bytes, number: int, text: bytes) -> bytes:
    return struct.pack("<cIQ", kind, len(text), number) + text


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _archives() -> list[bytes]:
    several = tars.archive(
        tars.directory("d"), tars.member("d/a", b"content"), tars.hardlink("b", "d/a"), tars.symlink("l", "/etc"),
        tars.member("l/passwd", b"x"), tars.member("d/.wh.x"), tars.member("d/.wh..wh..opq"), tars.device("n", 1, 3),
        tars.member("d/a", b"again"), tars.symlink("d/a", ".."), tars.member("é" * 80, b"long" * 300),
    )  # fmt: skip
    gnu = tars.archive(tars.member("n" * 150, b"x" * 600), tars.symlink("s", "t" * 150), format=tarfile.GNU_FORMAT)
    sparse = [
        tars.sparse("file", [(0, b"a" * 600), (5000, b"b")], 9000, form) + bytes(1024) for form in tars.SPARSE_FORMS
    ]
    attributes = tars.pax([(b"SCHILY.xattr.user.a", b"b"), (b"path", b"name"), (b"mtime", b"1.5"), (b"size", b"3")])
    return [several, gnu, *sparse, attributes + tars.header() + tars.padded(b"abc") + bytes(1024)]


_LAYER = tars.archive(tars.member("d/a", b"content"), tars.member("d/a", b"again"), tars.symlink("l", "/etc"))
_TAR_WORDS = (
    b"../", b"/etc/passwd\0", b".wh.", b".wh..wh..opq\0", b"\xff" * 12, b"\x80" + b"\0" * 11, b"77777777777\0",
    b"\0" * 512, b"\0" * 1024, b"GNU.sparse.major=1\n", b"18 GNU.sparse.map=", b"SCHILY.xattr.trusted.overlay.opaque",
    *(b"ustar\x0000", b"ustar  \0"), *(bytes([kind]) for kind in b"0123456KLgxSVDM7"),
)  # fmt: skip
_DESCRIPTOR = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 5}
_MANIFEST = {"schemaVersion": 2, "config": _DESCRIPTOR, "layers": [_DESCRIPTOR, _DESCRIPTOR]}
_INDEX = {"schemaVersion": 2, "manifests": [{**_DESCRIPTOR, "platform": {"architecture": "amd64"}}]}
_CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Cmd": None, "Volumes": {"/a": {}}},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created": "2020-01-01T00:00:00Z"}],
}
_JSON_WORDS = (
    b"null", b"-1", b"1e400", b"[" * 2000, b'{"a":' * 2000, b'"\\ud800"', b"\xff", b'"manifests":[],', b'"layers":[],',
    b"99999999999999999999", b'"schemaVersion":1,', b'"digest":"sha256:../../x",', b'"config":{},', b"true", b"\0",
)  # fmt: skip
_RECIPE = (
    b"sampan recipe 1\n"
    + _record(b"T", 0, b"abc") + _record(b"F", 7, b"d/a") + _record(b"M", 0, b"d/a") + _record(b"F", 5, b"d/a")
    + _record(b"S", 1, b"d/a") + bytes(8) + b"\x05" + bytes(7)
)  # fmt: skip

_NAMES = b"sampan names 1 net 172.18.0.0/16 fd00::/64\nweb 172.18.0.2 fd00::2\n\t2.0.18.172.in-addr.arpa web.net\n"
_QUERY = b"\0\7\1\0\0\1\0\0\0\0\0\0"

TARGETS = {
    "tar": Target(read_tar, _archives(), _TAR_WORDS, _mend_headers),
    "unpack": Target(unpack, _archives(), _TAR_WORDS, _mend_headers, root=True),
    "recipe": Target(
        follow_recipe, [_RECIPE], (b"../", b"/etc/passwd", b"F", b"M", b"\xff" * 8, b"l/passwd"), root=True
    ),
    "compression": Target(
        decompress,
        [gzip.compress(b"text" * 99), gzip.compress(b"a") + gzip.compress(b"b"), zstandard.compress(b"text" * 99)],
        (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\xfd7zXZ\0", b"BZh9"),
    ),
    "reference": Target(
        read_reference,
        [b"debian", b"localhost:5000/a/b_c:tag", b"x/y:1@" + DIGEST.encode(), b"[::1]:5000/a", b"h.example/a--b:T"],
        (*(b"@", b":", b"/", b"//", b"..", b"\0"), b"library/", b"docker.io/", b"index.docker.io/", b"a" * 300),
    ),
    "location": Target(
        read_location,
        [b"docker://debian:12", b"oci:/a/b:1.0", b"oci-archive:/a:x", b"docker-archive:a:@1", b"dir:/a", b"store:a"],
        (b":", b"//", b"[", b"@", b"\0", b"docker-daemon:", b"containers-storage:", b"a" * 300),
    ),
    "archive": Target(copy_archive, [_image_archive()], (*_TAR_WORDS, *_JSON_WORDS), _mend_headers),
    "manifest": Target(read_manifest, [_json(_MANIFEST), _json(_INDEX)], _JSON_WORDS),
    "config": Target(read_config, [_json(_CONFIG)], _JSON_WORDS),
    "referrers": Target(read_list, [_json(_INDEX)], _JSON_WORDS),
    "refusal": Target(
        read_refusal, [b'{"errors":[{"code":"DENIED","message":"no","detail":1}]}', b'{"details":"no"}'], _JSON_WORDS
    ),
    "registry": Target(serve_registry, _requests(), _HTTP_WORDS),
    "dns": Target(
        ask_for_name,
        [
            _QUERY + b"\3web\0\0\1\0\1",
            _QUERY[:-1] + b"\1\3WWW\7example\0\0\x1c\0\1\0\0\x29\x04\xd0\0\0\x80\0\0\0",
            _QUERY + b"\x012\x010\x0218\x03172\7in-addr\4arpa\0\0\x0c\0\1",
        ],
        (b"\xc0\x0c", b"\xc0\0", b"\x3f", b"\0\0\x29\xff\xff\0\0\0\0\xff\xff", b"\1.", b"\1 ", b"\4arpa\0"),
    ),
    "dockerfile": Target(
        dockerfiles.check,
        [text.encode() for text in dockerfiles.SEEDS],
        tuple(word.encode() for word in dockerfiles.WORDS),
    ),
    "challenge": Target(
        read_challenge,
        [b'Bearer realm="https://a/token",service="b",scope="repository:c:pull"', b'Basic realm="x", Bearer realm=y'],
        (b'"', b"\\", b",", b" ", b"=", b"Bearer ", b"realm=", b"\t" * 500, b"," * 500, b'\\"' * 500, b"a" * 5000),
    ),
}  # fmt: skip

"""Names of images: the real docker client is the measure of which there are, and of what they mean."""

from __future__ import annotations

import random
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidInput
from sampan.spec.reference import Reference
from support.peers import client
from support.recorder import Recorder

HEX = "0123456789abcdef"
SHA256, SHA384, SHA512 = (f"sha{bits}:{HEX * (bits // 64)}" for bits in (256, 384, 512))
NAMES = [
    "test_com", "test.com:tag", "test.com:5000", "test.com/repo:tag", "test.com:5000/repo", "test:5000/repo:tag",
    f"test:5000/repo@{SHA256}", f"test:5000/repo:tag@{SHA256}", f"repo@{SHA384}", f"repo@{SHA512}",
    "test:5000/repo", "", ":justtag", f"@{SHA256}", "repo@sha256:ffffffffffffffffffffffffffffffffff",
    f"validname@invaliddigest:{HEX * 8}", f"repo@SHA256:{HEX * 4}", f"repo@sha256:{HEX.upper() * 4}",
    "Uppercase:tag", "lowercase:Uppercase", "test:5000/Uppercase/lowercase:tag", "Uppercase/lowercase:tag",
    "aa/asdf$$^/aa", "sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
    "b.gcr.io/test.example.com/my-app:test.example.com", "xn--n3h.com/myimage:xn--n3h.com",
    f"xn--7o8h.com/myimage:xn--7o8h.com@{SHA512}", "foo_bar.com:8080", "foo/foo_bar.com:8080",
    "192.168.1.1", "192.168.1.1:tag", "192.168.1.1:5000", "192.168.1.1/repo", "192.168.1.1:5000/repo:5050",
    "[2001:db8::1]", "[2001:db8::1]:5000", "[2001:db8::1]/repo", "[2001:db8:1:2:3:4:5:6]/repo:tag",
    f"[2001:db8::1]:5000/repo@{SHA256}", "[2001:db8:::]/repo", "[fe80::1%eth0]:5000/repo",
    "[fe80::1%@invalidzone]/repo",
    "docker/docker", "library/debian", "docker.io/docker/docker", "docker.io/library/debian", "docker.io/debian",
    "index.docker.io/docker/docker", "index.docker.io/debian", "127.0.0.1:5000/docker/docker", "127.0.0.1:5000/debian",
    "localhost/x", "localhost:5000/x", "LOCALHOST/x", "Foo/x", "thisisthesongthatneverendsitgoesonandonandonthisisthe",
    "docker/Docker", "-docker/docker", "docker-/docker", "docker/docker-", "-foo/bar", "foo-/bar", "foo--bar/x",
    "docker//docker", "docker///docker", "docker.io/docker/Docker", "docker.io/docker///docker", "a_/b", "a__b/c_d",
    "a___b/c", "a..b/c", "a.-b/c", "a-_b/c", "dom--ain.com/x", "1.2/x", "a:1/b", "a:/b", "a:b/c", "a:99999/b", ".a/b",
    "x" * 128 + "/y", "a/" * 127 + "b", "a/" * 128 + "b", "x" * 255, "x" * 256, "library/" + "x" * 247,
    "x:" + "t" * 128, "x:" + "t" * 129, "x:-t", "x:.t", "x:_t", "x:t.", "x:", "x@", "x:t:t", HEX * 4, HEX * 4 + ":t",
    f"docker.io/{HEX * 4}",
    " x", "x ", "x\ty", "x\n", "ä", "x/ä", "https://x/y", "../x", "x/../y", "/x", "x/", "x:t/y", "a b",
]  # fmt: skip


def generated() -> list[str]:
    chance = random.Random(7)
    parts = ["a", "B", "0", ".", "-", "--", "_", "__", "/", ":", "@", "docker.io/", "localhost", "[::1]", SHA256, "tag"]
    return ["".join(chance.choices(parts, k=chance.randrange(2, 8))) for _ in range(120)]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    found = Recorder(tmp_path_factory.mktemp("references") / "docker.sock")
    yield found
    found.close()


@pytest.mark.parametrize("name", NAMES + generated())
def test_a_name_means_what_it_means_to_docker(recorder: Recorder, tmp_path: Path, name: str) -> None:
    recorder.requests.clear()
    done = client(Path(recorder.server.server_address), tmp_path, "pull", "-q", "--", name)
    asked = [request[1] for request in recorder.requests if "/images/create" in request[1]]

    if not asked:
        assert done.code != 0
        with pytest.raises(InvalidInput):
            Reference.parse(name)
        return
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(asked[0]).query)
    ours = Reference.parse(name)
    assert ours.name == query["fromImage"][0]
    assert (ours.digest or ours.tag) == query["tag"][0]

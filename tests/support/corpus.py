"""The corpus of Dockerfiles: cases read from tests/corpus, each one rule, and what each is built from.

A case begins with `==== TITLE`. Lines that begin with `:: ` say what it needs, the rest is the Dockerfile:

    {server}                in the text is a web server with the contexts tree and archives
    :: context NAME …       what tests/support/build_contexts.py makes of it
    :: beside DIR NAME …    the same in a directory beside the context
    :: file PATH "TEXT"     a file in the context (or beside it: ../PATH), as JSON
    :: args WORD …          the build's, in the shell's quoting; paths are relative to the directory above
    :: env NAME=VALUE …     the client's environment
    :: with buildah         recorded from the only one that knows the rule, or from the classic builder
    :: fails TEXT           it must, and this is in the message, BuildKit's and ours
    :: says TEXT            is in our message, where it is another
    :: form crlf|bom|cut    how the Dockerfile is written: line ends, a mark before it, no line end at its end
    :: dockerfile PATH      its name, if another than Dockerfile
    :: note TEXT            what a reader should know; where builders differ
    :: ours files PATH TEXT what we make of a file where we mean to differ; without TEXT it is not there
    :: ours config KEY JSON, :: ours history JSON       the same of those
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.build_contexts import CONTEXTS, settle
from support.images import busybox_tar

CORPUS = Path(__file__).parent.parent / "corpus"
RECORDED = Path(__file__).parent.parent / "goldens" / "builds.json"
SERVER = "http://127.0.0.1:18231"
"""In the network of whoever builds."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASES = {
    "base": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"]},
    "full": {
        "Env": [f"PATH={PATH}", "COLOUR=red", "EMPTY="],
        "Cmd": ["old", "command"],
        "Entrypoint": ["/bin/echo"],
        "User": "user",
        "WorkingDir": "/home/user",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/var/tmp": {}},
        "Labels": {"kept": "1", "changed": "old"},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000},
    },
    "triggers": {
        "Env": [f"PATH={PATH}"],
        "OnBuild": ["ENV TRIGGERED=yes", "COPY a.txt /triggered", "RUN echo $TRIGGERED >> /triggered"],
    },
}
"""Images that the cases are built on, by name: BusyBox, with these configurations."""


class Case(NamedTuple):
    group: str
    title: str
    text: str
    options: tuple[tuple[str, str], ...]

    @property
    def id(self) -> str:
        return f"{self.group}: {self.title}"

    def all(self, option: str) -> list[str]:
        return [value for name, value in self.options if name == option]

    def words(self, option: str) -> list[str]:
        return [word for value in self.all(option) for word in shlex.split(value)]

    def one(self, option: str) -> str | None:
        return next(iter(self.all(option)), None)

    @property
    def digest(self) -> str:
        """What tells whether what was recorded is of this very case."""
        said = [(name, value) for name, value in self.options if name not in ("note", "fails", "says", "ours")]
        return hashlib.sha256(json.dumps([self.text, said]).encode()).hexdigest()[:12]

    @property
    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words("env"))

    @property
    def arguments(self) -> list[str]:
        """The build's arguments, but the tag; they hold in the directory that `lay` made."""
        name = self.one("dockerfile")
        where = [] if name is None else ["-f", f"context/{name}"]
        return [*where, *self.words("args"), "context"]

    def lay(self, directory: Path) -> None:
        """Make the context and what is beside it."""
        context = directory / "context"
        context.mkdir(parents=True)
        for name in self.words("context"):
            CONTEXTS[name](context)
        for value in self.all("beside"):
            beside, *names = value.split()
            (directory / beside).mkdir()
            for name in names:
                CONTEXTS[name](directory / beside)
        for value in self.all("file"):
            name, _, text = value.partition(" ")
            _written(context / name, json.loads(text).encode())
        _written(context / (self.one("dockerfile") or "Dockerfile"), self._bytes())
        settle(directory)

    def _bytes(self) -> bytes:
        match self.one("form"):
            case "crlf":
                return self.text.replace("\n", "\r\n").encode()
            case "bom":
                return b"\xef\xbb\xbf" + self.text.encode()
            case "cut":
                return self.text.rstrip("\n").encode()
            case _:
                return self.text.encode()


def _written(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o644)


def cases() -> list[Case]:
    """All of them, in their order."""
    found = [case for path in sorted(CORPUS.glob("*.txt")) for case in _read(path)]
    ids = [case.id for case in found]
    assert len(set(ids)) == len(ids), [id for id in ids if ids.count(id) > 1]
    return found


def _read(path: Path) -> Iterator[Case]:
    for part in ("\n" + path.read_text()).split("\n==== ")[1:]:
        title, _, rest = part.partition("\n")
        lines = rest.rstrip("\n").split("\n")
        count = next((n for n, line in enumerate(lines) if not line.startswith(":: ")), len(lines))
        options = [line[3:].partition(" ") for line in lines[:count]]
        text = "".join(f"{line}\n" for line in lines[count:])
        text = text.replace("{server}", SERVER)
        yield Case(path.stem, title, text, tuple((name, value) for name, _, value in options))


@contextmanager
def serving(directory: Path, within: Sequence[str] = ()) -> Iterator[None]:
    """Have a web server of the contexts' files at SERVER, started by `within` in another network."""
    directory.mkdir(parents=True)
    for name in ("tree", "archives"):
        CONTEXTS[name](directory)
    settle(directory)
    host, port = SERVER.removeprefix("http://").split(":")
    command = [*within, sys.executable, "-u", "-m", "http.server", port, "--bind", host, "--directory", str(directory)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert server.stdout
        server.stdout.readline()  # it says that it serves
        yield
    finally:
        server.kill()
        server.communicate()


def bases(directory: Path) -> Path:
    """Write the archive of the images that cases are built on; return it."""
    layer = busybox_tar(directory / "busybox.tar").read_bytes()
    target = directory / "bases.tar"
    with tarfile.open(target, "w") as tar:
        _add(tar, "layer.tar", layer)
        manifest = []
        for name, config in BASES.items():
            _add(tar, f"{name}.json", _configuration(config, layer))
            manifest.append({"Config": f"{name}.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]})
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return target


def _configuration(config: dict, layer: bytes) -> bytes:
    return json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "base"}],
        }
    ).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))

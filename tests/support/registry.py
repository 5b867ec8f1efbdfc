"""A real registry (Debian's docker-registry) on a loopback port, and what it takes to put images there."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from support.sampan import wait_until


class Registry:
    """`address` is 127.0.0.1:PORT; images are pushed with skopeo. `within` is a command that leads where both run."""

    def __init__(self, directory: Path, within: tuple[str, ...] = ()) -> None:
        self.directory, self.within = directory, within
        directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        configuration = directory / "config.yml"
        configuration.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
            f"http: {{addr: {self.address}}}\n"
        )
        self._log = (directory / "log").open("wb")
        self._server = subprocess.Popen(
            [*within, "docker-registry", "serve", str(configuration)], stdout=self._log, stderr=self._log
        )
        wait_until(self._answers, what="docker-registry answers")

    def _answers(self) -> bool:
        if self.within:
            sockets = subprocess.run([*self.within, "ss", "-Hltn"], capture_output=True, text=True, check=True)
            return self.address in sockets.stdout.split()
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def push(self, source: str, name: str, *options: str) -> str:
        """Copy `source` (skopeo's transport:path) to NAME here; return the whole reference."""
        reference = f"{self.address}/{name}"
        subprocess.run(
            [
                *self.within,
                "skopeo",
                "copy",
                "-q",
                "--insecure-policy",
                "--dest-tls-verify=false",
                *options,
                source,
                f"docker://{reference}",
            ],
            check=True,
            timeout=120,
        )
        return reference

    def copy_tag(self, repository: str, old: str, new: str) -> None:
        """Give a manifest another tag, in the registry's directory: much quicker than to ask for it."""
        tags = self.directory / "data/docker/registry/v2/repositories" / repository / "_manifests/tags"
        shutil.copytree(tags / old, tags / new)

    def end(self) -> None:
        self._server.terminate()
        self._server.wait(10)
        self._log.close()

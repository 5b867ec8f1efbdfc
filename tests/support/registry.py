"""A real registry (Debian's docker-registry) on a loopback port, and what it takes to put images there."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.sampan import wait_until


class Registry:
    """`address` is 127.0.0.1:PORT; images are pushed with skopeo. `within` is a command that leads where both run.

    `users` are names and passwords; `tls` is what configures its TLS, in docker-registry's words.
    """

    def __init__(
        self,
        directory: Path,
        within: tuple[str, ...] = (),
        *,
        users: Mapping[str, str] | None = None,
        tls: Mapping[str, object] | None = None,
    ) -> None:
        self.directory, self.within = directory, within
        directory.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        configuration = directory / "config.yml"
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}},
            "http": {"addr": self.address, **({"tls": tls} if tls else {})},
        }
        if users:
            words = ["htpasswd", "-Bbn"]
            lines = [subprocess.run([*words, *user], capture_output=True, check=True).stdout for user in users.items()]
            (directory / "htpasswd").write_bytes(b"".join(lines))
            settings["auth"] = {"htpasswd": {"realm": "here", "path": f"{directory}/htpasswd"}}
        configuration.write_text(json.dumps(settings))
        self._log = (directory / "log").open("wb")
        self._server = subprocess.Popen(
            [*within, "docker-registry", "serve", str(configuration)], stdout=self._log, stderr=self._log
        )
        wait_until(self._answers, what="docker-registry answers")

    def _answers(self) -> bool:
        if self.within:
            sockets = subprocess.run([*self.within, "ss", "-Hltn"], capture_output=True, text=True, check=True)
            return self.address in sockets.stdout.split()
        host, _, port = self.address.partition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

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
        self._server.wait(30)
        self._log.close()

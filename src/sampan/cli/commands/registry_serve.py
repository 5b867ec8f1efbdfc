"""`sampan registry serve`: a registry in the foreground."""

from __future__ import annotations

import os
import sys

from sampan.cli.command import Call, Command
from sampan.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FLAGS = (
    Flag("listen", "string", "Address to listen on: HOST:PORT; port 0 takes any", default="127.0.0.1:5000"),
    Flag("name", "string", "Repository of an OCI layout's bare tags; the directory's name unless given"),
    Flag("tls-cert", "string", "Serve over TLS with this certificate, and its chain (PEM)"),
    Flag("tls-key", "string", "The certificate's key (PEM)"),
    Flag("client-ca", "string", "Accept only clients with a certificate of one of these authorities (PEM)"),
    Flag("htpasswd", "string", "Accept only the users in this file of bcrypt hashes (htpasswd -B)"),
    Flag("anonymous-pull", "bool", "Beside --htpasswd: let everybody pull"),
    Flag("read-only", "bool", "Permit pulling only; the directory is not written to"),
    Flag("no-delete", "bool", "Permit no deletion of tags, manifests and blobs"),
    Flag("sparse-indexes", "bool", "Accept an index of which not all manifests are there"),
    Flag("max-connections", "int", "Connections at a time", default=256),
    Flag("quiet", "bool", "Don't write a line for each request", short="q"),
)


def serve(call: Call) -> int:
    """Become the registry: the command line imports nothing of it."""
    options = call.options
    execute(
        "serve",
        {
            "directory": call.arguments[0] if call.arguments else call.session.dirs.registry,
            "name": options["name"],
            "listen": options["listen"],
            "read_only": options["read-only"],
            "no_delete": options["no-delete"],
            "sparse_indexes": options["sparse-indexes"],
            "connections": options["max-connections"],
            "quiet": options["quiet"],
            "tls_cert": options["tls-cert"],
            "tls_key": options["tls-key"],
            "client_ca": options["client-ca"],
            "htpasswd": options["htpasswd"],
            "anonymous_pull": options["anonymous-pull"],
        },
    )


def execute(verb: str, options: dict[str, object]) -> NoReturn:
    """Replace this process by the registry's."""
    from sampan.client import jsontext

    # -P: no module is taken from the directory that the user happens to be in
    words = [sys.executable, "-P", "-m", "sampan.registry", verb, jsontext.dumps(options)]
    os.execv(sys.executable, words)


COMMAND = Command(
    "serve [OPTIONS] [DIRECTORY]",
    "Serve images over the OCI distribution protocol",
    serve,
    flags=FLAGS,
    arguments=(0, 1),
)

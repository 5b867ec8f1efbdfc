"""The values of build's flags that are small languages: secrets, agents, outputs, caches, contexts.

The words and the rules are buildx's. Each function returns objects of the request; Failure says what is wrong.
"""

from __future__ import annotations

import os

from sampan.cli.failure import Failure, quoted
from sampan.cli.values import split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_GREATEST_SECRET = 500 * 1024  # BuildKit's, session/secrets
OUTPUTS = ("image", "registry", "local", "tar", "oci", "docker", "cacheonly")
_FORM = ("compression", "compression-level", "force-compression")
_ATTRIBUTES = {
    "image": ("name", "push", *_FORM),
    "registry": ("name", "push", *_FORM),
    "local": ("dest",),
    "tar": ("dest",),
    "oci": ("dest", "name", "tar", *_FORM),
    "docker": ("dest", "name", "tar", *_FORM),
    "cacheonly": (),
}
CACHES = ("registry", "inline", "local")


def secret(text: str) -> Json:
    """Read `id=NAME[,src=FILE|,env=VARIABLE]`: without either the variable or the file of that name."""
    from binascii import b2a_base64

    fields = _fields(text, "secret", {"id", "src", "source", "env", "type"}, text)
    kind, id, env = fields.get("type", ""), fields.get("id", ""), fields.get("env", "")
    path = fields.get("src") or fields.get("source", "")
    if kind not in ("", "file", "env"):
        raise Failure(f"unsupported secret type {quoted(kind)}")
    if kind == "env" and not env:
        env, path = path, ""
    id = id or os.path.basename(path) or env
    if not id:
        raise Failure(f"invalid secret {quoted(text)}: it has no id", "--secret id=NAME,src=FILE")
    if not env and not path:
        env, path = (id, "") if id in os.environ else ("", id)
    if env:
        if env not in os.environ:
            raise Failure(f"can't read the secret {id}: the variable {env} is not set")
        data = os.environb[env.encode("utf-8", "surrogateescape")]
    else:
        data = _file(path, f"the secret {id}")
    if len(data) > _GREATEST_SECRET:
        raise Failure(f"invalid secret {id} size {len(data)}: 500 KiB are the most")
    return {"id": id, "value": b2a_base64(data, newline=False).decode()}


def _file(path: str, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_GREATEST_SECRET + 1)
    except OSError as e:
        cause = f"stat {path}: {(e.strerror or '').lower()}"
        raise Failure(f"can't read {what}: {cause}", "--secret id=NAME,src=FILE") from None


def ssh(text: str) -> Json:
    """Read `NAME[=SOCKET]`. Without a socket it is that of SSH_AUTH_SOCK."""
    id, _, path = text.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise Failure(
            f"invalid empty ssh agent socket for {quoted(id or 'default')}",
            "start an agent, so that SSH_AUTH_SOCK is set, or name one: --ssh NAME=SOCKET",
        )
    import stat

    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as e:
        raise Failure(f"can't use the ssh agent {path}: {(e.strerror or '').lower()}") from None
    if not is_socket:
        raise Failure(f"unsupported: {path} is no agent's socket", f"ssh-add {path}, and --ssh {id or 'default'}", 125)
    return {"id": id or "default", "socket": os.path.abspath(path)}


def output(text: str) -> Json:
    """Read `type=TYPE[,dest=PATH][,…]`, `-` for a tar or a directory."""
    fields = _csv(text)
    if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
        return {"type": "tar" if text == "-" else "local", "attributes": {"dest": text}}
    attributes = _pairs(fields)
    kind = attributes.pop("type", "")
    if not kind:
        raise Failure("type is required for output", "-o type=local,dest=DIRECTORY")
    if kind not in OUTPUTS:
        raise Failure(f"exporter {quoted(kind)} could not be found", f"there are {', '.join(OUTPUTS)}")
    if kind == "registry":
        kind, attributes["push"] = "image", "true"
    for name in attributes:
        if name not in _ATTRIBUTES[kind]:
            known = ", ".join(_ATTRIBUTES[kind]) or "none"
            raise Failure(f"unsupported: {name} of an output of type {kind}", f"it has {known}", 125)
    if kind == "docker" and "dest" not in attributes:
        kind = "image"  # the store is this engine's own
    if kind in ("local", "tar", "oci") and not attributes.get("dest"):
        if kind == "local" or os.isatty(1):
            what = f"dest is required for {kind} exporter" if kind == "local" else "dest file is required"
            raise Failure(what + ("" if kind == "local" else f" for {kind} exporter. refusing to write to console"))
        attributes["dest"] = "-"
    return {"type": kind, "attributes": attributes}


def cache(text: str, *, export: bool) -> list[Json]:
    """Read `REF[,REF…]` or `type=registry|inline|local,…`."""
    if "=" not in text:
        return [{"type": "registry", "attributes": {"ref": ref}} for ref in _csv(text) if ref]
    attributes = _pairs(_csv(text))
    kind = attributes.pop("type", "")
    if not kind:
        raise Failure(f"type required for {quoted(text)}")
    if kind not in CACHES or (kind == "inline" and not export):
        raise Failure(f"unsupported: a cache of type {kind}", f"there are {', '.join(CACHES)}", 125)
    needed = {"registry": "ref", "local": "dest" if export else "src"}.get(kind)
    if needed and not attributes.get(needed):
        raise Failure(f"a cache of type {kind} needs {needed}", f"type={kind},{needed}=…")
    if kind == "local" and needed:
        attributes[needed] = os.path.abspath(attributes[needed])
    return [{"type": kind, "attributes": attributes}]


def pairs(given: list[str], what: str, *, own_values: bool = False) -> dict[str, str]:
    """Read `NAME=VALUE` again and again; a name alone is "", or with `own_values` what it is here, if anything."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name:
            raise Failure(f"invalid {what} {quoted(text)}: empty key")
        if equals or not own_values:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def manifest_annotations(given: list[str]) -> dict[str, str]:
    """Read `[manifest:]NAME=VALUE`."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"invalid annotation {quoted(text)}, expected key=value")
        kinds, colon, key = name.partition(":")
        if colon and kinds != "manifest":
            raise Failure(f"unsupported: an annotation of {kinds}", "annotations are the manifest's", 125)
        found[key if colon else name] = value
    return found


def _fields(text: str, what: str, known: set[str], whole: str) -> dict[str, str]:
    found = {}
    for field in _csv(text):
        name, equals, value = field.partition("=")
        if not equals:
            raise Failure(f"invalid field '{field}' must be a key=value pair")
        if name.lower() not in known:
            raise Failure(f"unexpected key '{name.lower()}' in '{field}'", f"of {what} {whole}")
        found[name.lower()] = value
    return found


def _pairs(fields: list[str]) -> dict[str, str]:
    found = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals:
            raise Failure(f"invalid value {field}")
        found[name.strip().lower()] = value
    return found


def _csv(text: str) -> list[str]:
    try:
        return split_csv(text)
    except ValueError as e:
        raise Failure(str(e)) from None

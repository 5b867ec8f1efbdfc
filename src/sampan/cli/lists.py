"""What the verbs of `sampan manifest` share."""

from __future__ import annotations

from sampan.cli.failure import UsageError
from sampan.cli.flags import Flag
from sampan.client.wire import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sampan.cli.flags import Options
    from sampan.cli.session import Session

INSECURE = Flag(
    "insecure", "bool", "Speak to an insecure registry", unsupported="a registry is insecure by configuration only"
)

PLATFORM = (
    Flag("annotation", "list", "Annotate the image's entry: NAME=VALUE"),
    Flag("arch", "string", "Set the architecture, in Go's words: arm64"),
    Flag("os", "string", "Set the operating system"),
    Flag("os-features", "list", "Set features of the operating system"),
    Flag("os-version", "string", "Set the version of the operating system"),
    Flag("variant", "string", "Set the variant of the architecture: v8"),
)


def change(options: Options) -> dict[str, object]:
    """Return what PLATFORM's flags say, in the API's form."""
    features = [part for text in options["os-features"] for part in text.split(",") if part]
    return {
        "Architecture": options["arch"],
        "OS": options["os"],
        "OSFeatures": features,
        "OSVersion": options["os-version"],
        "Variant": options["variant"],
        "Annotations": pairs(options["annotation"]),
    }


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE of each."""
    found = dict(text.partition("=")[::2] for text in given)
    if "" in found:
        raise UsageError("invalid annotation: it reads NAME=VALUE")
    return found


def list_path(name: str, rest: str = "") -> str:
    """Return the path of a list in the API."""
    return f"/sampan/lists/{quote(name)}{rest}"


def auths(session: Session, names: Iterable[str], creds: str = "") -> dict[str, str]:
    """Return the credentials for the repositories of all names: `creds` where given, else config.json's."""
    from sampan.cli.credentials import headers_for
    from sampan.cli.references import named

    found = {}
    for name in names:
        if name.startswith(("store:", "containers-storage:", "docker-daemon:")):
            continue
        reference = named(session, name.removeprefix("docker://"))
        headers = headers_for(session, reference.registry, reference.repository, creds)
        if headers:
            found[reference.name] = headers["X-Registry-Auth"]
    return found

"""What the verbs that move images share: flags on the form that an image takes, tries, and the digest's file."""

from __future__ import annotations

from sampan.cli.failure import Failure
from sampan.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Options

FORM = (
    Flag("compression-format", "string", "Compress layers with gzip or zstd where they are compressed anew"),
    Flag("compression-level", "int", "Level of that: gzip 1 to 9, zstd 1 to 22", default=0),
    Flag("force-compression", "bool", "Have all layers in that compression, whatever there is of them in another"),
    Flag("format", "string", "Form of the manifest: oci, or docker (v2s2)", short="f"),
)


def retries_of(options: Options) -> dict[str, object]:
    """Return the parameters of the API for cli/options.retries; "" for what is not given."""
    return {"retry": options["retry"], "retryDelay": options["retry-delay"]}


def write_digest(path: str, digest: str) -> None:
    """Write a digest to a file, as podman and skopeo do: without a newline."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(digest)
    except OSError as e:
        raise Failure(f"can't write {path}: {(e.strerror or '').lower()}") from None

"""Names of devices as CDI has them, `vendor.com/class=name`. Pure, and next to nothing to import."""

from __future__ import annotations


def split(name: str) -> tuple[str, str] | None:
    """Return (`vendor.com/class`, `name`), or None where it is no such name, but a path.

    The letters are those of the CDI specification, "Kind" and "CDI Devices".
    """
    kind, equals, device = name.partition("=")
    vendor, slash, group = kind.partition("/")
    good = vendor[:1].isalpha() and group[:1].isalpha() and _word(vendor, "_-.") and _word(group, "_-.")
    return (kind, device) if equals and slash and good and _word(device, "_-.:") else None


def is_kind(kind: str) -> bool:
    """Whether it is a `vendor.com/class`."""
    return split(f"{kind}=x") is not None


def is_device(name: str) -> bool:
    """Whether a device may be called so."""
    return _word(name, "_-.:")


def _word(text: str, inside: str) -> bool:
    """Letters and digits, and some more characters between them."""
    good = all(c.isalnum() or c in inside for c in text)
    return bool(text) and text.isascii() and good and text[0].isalnum() and text[-1].isalnum()

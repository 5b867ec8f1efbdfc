"""Platforms as the command line takes them, in the form that the API wants since 1.48."""

from __future__ import annotations

import os

from sampan.cli.failure import Failure, quoted


def as_json(text: str) -> str:
    """Return `linux/arm64` as OCI has it, "" for ""."""
    if not text:
        return ""
    from sampan.client.jsontext import dumps
    from sampan.errors import InvalidInput
    from sampan.spec.distribution import Platform

    try:
        platform = Platform.parse(text, os.uname().machine)
    except InvalidInput as e:
        cause = "cannot parse platform specifier: invalid argument"
        raise Failure(f"invalid platform: {quoted(text)}: {cause}", e.hint) from None
    usual = (platform.architecture, platform.variant) == ("arm64", "v8")
    variant = None if usual else platform.variant
    fields = {"architecture": platform.architecture, "os": platform.os, "variant": variant}
    return dumps({name: value for name, value in fields.items() if value})

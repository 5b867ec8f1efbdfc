"""The rules of `--check`, by BuildKit's names, texts and addresses, and the directive `# check=…` that chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sampan.build.dockerfile.errors import quoted
from sampan.errors import InvalidInput
from sampan.spec.decoding import convert

if TYPE_CHECKING:
    from collections.abc import Iterable

_ADDRESS = "https://docs.docker.com/go/dockerfile/rule/"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class Rule(msgspec.Struct, frozen=True):
    """A rule. An experimental one counts only if the directive asks for it. `page` is the last part of its address."""

    name: str
    description: str
    page: str = ""
    experimental: bool = False

    @property
    def url(self) -> str:
        """Where it is explained, or nothing."""
        return f"{_ADDRESS}{self.page}/" if self.page else ""


RULES = {
    rule.name: rule
    for rule in (
        Rule("StageNameCasing", "Stage names should be lowercase", "stage-name-casing"),
        Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword", "from-as-casing"),
        Rule(
            "NoEmptyContinuation",
            "Empty continuation lines will become errors in a future release",
            "no-empty-continuation",
        ),
        Rule(
            "ConsistentInstructionCasing",
            "All commands within the Dockerfile should use the same casing (either upper or lower)",
            "consistent-instruction-casing",
        ),
        Rule("DuplicateStageName", "Stage names should be unique", "duplicate-stage-name"),
        Rule("ReservedStageName", "Reserved words should not be used as stage names", "reserved-stage-name"),
        Rule(
            "JSONArgsRecommended",
            "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
            "json-args-recommended",
        ),
        Rule(
            "MaintainerDeprecated",
            "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
            "maintainer-deprecated",
        ),
        Rule("UndefinedArgInFrom", "FROM command must use declared ARGs", "undefined-arg-in-from"),
        Rule(
            "WorkdirRelativePath",
            "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
            "base image changes",
            "workdir-relative-path",
        ),
        Rule("UndefinedVar", "Variables should be defined before their use", "undefined-var"),
        Rule(
            "MultipleInstructionsDisallowed",
            "Multiple instructions of the same type should not be used in the same stage",
            "multiple-instructions-disallowed",
        ),
        Rule(
            "LegacyKeyValueFormat",
            "Legacy key/value format with whitespace separator should not be used",
            "legacy-key-value-format",
        ),
        Rule("InvalidBaseImagePlatform", "Base image platform does not match expected target platform"),
        Rule(
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            "redundant-target-platform",
        ),
        Rule(
            "SecretsUsedInArgOrEnv",
            "Sensitive data should not be used in the ARG or ENV commands",
            "secrets-used-in-arg-or-env",
        ),
        Rule(
            "InvalidDefaultArgInFrom",
            "Default value for global ARG results in an empty or invalid base image name",
            "invalid-default-arg-in-from",
        ),
        Rule(
            "FromPlatformFlagConstDisallowed",
            "FROM --platform flag should not use a constant value",
            "from-platform-flag-const-disallowed",
        ),
        Rule(
            "CopyIgnoredFile",
            "Attempting to Copy file that is excluded by .dockerignore",
            "copy-ignored-file",
            experimental=True,
        ),
        Rule(
            "InvalidDefinitionDescription",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this "
            "is not intended to be a description comment, add an empty line or comment between the instruction and the "
            "comment.",
            "invalid-definition-description",
            experimental=True,
        ),
        Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase", "expose-proto-casing"),
        Rule(
            "ExposeInvalidFormat",
            "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
            "future release",
            "expose-invalid-format",
        ),
    )
}
"""Every rule by its name."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What `# check=skip=…;error=…;experimental=…` asks for; None stands for `all`."""

    skip: frozenset[str] | None = frozenset()
    experimental: frozenset[str] | None = frozenset()
    error: bool = False

    def has(self, rule: Rule) -> bool:
        """Whether a rule counts. Skipping is not for experimental ones, as in BuildKit: they aren't asked for then."""
        if rule.experimental:
            return self.experimental is None or rule.name in self.experimental
        return self.skip is not None and rule.name not in self.skip


def choice(text: str) -> Choice:
    """Read the directive's value. Raises InvalidInput. Rules that don't exist are none, as in BuildKit."""
    values: dict[str, frozenset[str] | bool | None] = {}
    for part in text.split(";", 2) if text.strip() else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise _invalid(f"invalid check option {quoted(part)}")
        if key in {"skip", "experimental"}:
            values[key] = None if value == "all" else frozenset(_names(value.split(",")))
        elif key != "error":
            raise _invalid(f"invalid check option {quoted(key)}")
        elif value in _TRUE | _FALSE:
            values[key] = value in _TRUE
        else:
            raise _invalid(f"failed to parse check option {quoted(part)}: it is true or false")
    return convert(values, Choice)


def _names(words: Iterable[str]) -> Iterable[str]:
    return (word.strip() for word in words)


def _invalid(cause: str) -> InvalidInput:
    return InvalidInput(f"failed to parse check options: {cause}", "it reads # check=skip=RULE,RULE;error=true")

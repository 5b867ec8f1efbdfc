"""`--check`. `dockerfile/checks.jsonl` is what `docker build --check` of BuildKit's frontend 1.19 says of each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.build.dockerfile import parse
from sampan.build.lint import Base, Report, Surroundings, lint
from sampan.build.lint_rules import RULES
from sampan.errors import InvalidInput
from sampan.spec.distribution import Platform
from sampan.spec.image import ExecutionConfig

RECORDS = [json.loads(row) for row in (Path(__file__).parent / "dockerfile" / "checks.jsonl").read_text().splitlines()]
PREDEFINED = {
    f"{prefix}{name}": value
    for prefix in ("BUILD", "TARGET")
    for name, value in (
        ("PLATFORM", "linux/amd64"),
        ("OS", "linux"),
        ("OSVERSION", ""),
        ("ARCH", "amd64"),
        ("VARIANT", ""),
    )
}


def told(text: str, around: Surroundings | None = None) -> list[str]:
    """The names of the rules that a file goes against."""
    return [each.rule.name for each in report(text, around).violations]


def report(text: str, around: Surroundings | None = None) -> Report:
    return lint(parse(text), around or Surroundings(predefined=PREDEFINED))


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["dockerfile"])
def test_a_file_is_advised_as_buildkit_advises(record: dict[str, Any]) -> None:
    found = report(record["dockerfile"]).violations

    assert [[each.rule.name, each.message, each.location.start] for each in found] == record["warnings"]


def test_every_rule_is_in_use_and_explained_where_buildkits_is() -> None:
    seen = {rule for record in RECORDS for rule, _, _ in record["warnings"]}

    assert set(RULES) - seen == {"CopyIgnoredFile", "InvalidBaseImagePlatform"}  # they look outside the file
    assert RULES["UndefinedVar"].url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"


def test_a_violation_shows_its_lines() -> None:
    (violation,) = report("FROM a\nENV b c\n").violations

    assert violation.source.split("\n")[:4] == ["Dockerfile:2", "-" * 20, "   1 |     FROM a", "   2 | >>> ENV b c"]


def test_what_a_base_image_has_is_known_in_its_stages() -> None:
    config = ExecutionConfig(env=("HOME=/",), shell=("bash", "-c"))
    around = Surroundings(predefined=PREDEFINED, base=lambda _image, _platform: Base(config=config))

    assert told("FROM a\nENV b=$HOME\nCMD c\n", around) == []
    assert told("FROM a\nENV b=$PATH\n", around) == ["UndefinedVar"]


def test_of_a_base_image_that_is_not_known_nothing_is_said() -> None:
    around = Surroundings(predefined=PREDEFINED, base=lambda _image, _platform: Base(known=False))

    found = report("FROM a\nENV b=$c d=${e?no}\nEXPOSE $f\nCMD g\n", around)

    assert (found.violations, found.error) == ((), None)
    assert report("FROM a\nENV b=${\n", around).error is not None


def test_a_base_image_of_another_platform_is_told() -> None:
    arm = Base(platform=Platform(os="linux", architecture="arm64"))
    around = Surroundings(predefined=PREDEFINED, base=lambda _image, _platform: arm)

    (violation,) = report("FROM a\n", around).violations

    assert violation.message == (
        'Base image a was pulled with platform "linux/arm64", expected "linux/amd64" for current build'
    )


def test_a_copy_of_what_dockerignore_leaves_out_is_told_where_that_is_asked_for() -> None:
    around = Surroundings(predefined=PREDEFINED, ignored=lambda path: path.endswith(".md"))
    text = "FROM a\nCOPY a.md b.txt c.md /\nADD http://x/a.md /\nCOPY --from=x a.md /\nADD d.md /\n"

    assert told(text, around) == []
    found = report(f"# check=experimental=CopyIgnoredFile\n{text}", around).violations
    assert [each.message for each in found] == [
        'Attempting to Copy file "a.md" that is excluded by .dockerignore',
        'Attempting to Copy file "c.md" that is excluded by .dockerignore',
        'Attempting to Add file "d.md" that is excluded by .dockerignore',
    ]


def test_given_arguments_count() -> None:
    around = Surroundings(predefined=PREDEFINED, arguments={"v": "12"})

    assert told("ARG v\nFROM a:$v\nARG v=${nope}\nENV w=$v\n", around) == ["InvalidDefaultArgInFrom"]


def test_the_directive_makes_an_error_of_advice() -> None:
    error = report("# check=error=true\nFROM a as b\nENV c d\n").error

    assert error is not None
    assert error.message == "lint violation found for rules: FromAsCasing, LegacyKeyValueFormat"


@pytest.mark.parametrize(
    ("directive", "cause"),
    [
        ("foo", 'invalid check option "foo"'),
        ("foo=1", 'invalid check option "foo"'),
        (";", 'invalid check option ""'),
        ("error=maybe", 'failed to parse check option "error=maybe": it is true or false'),
    ],
)
def test_a_wrong_directive_is_an_error(directive: str, cause: str) -> None:
    error = report(f"# check={directive}\nFROM a\n").error

    assert isinstance(error, InvalidInput)
    assert error.message == f"failed to parse check options: {cause}"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("EXPOSE $x/TCP", "no port specified"),
        ("VOLUME $x", "VOLUME specified can not be an empty string"),
        ("STOPSIGNAL foo", "nvalid signal: foo"),
    ],
)
def test_a_value_that_is_none_ends_the_look(line: str, cause: str) -> None:
    error = report(f"FROM a\n{line}\n").error

    assert error is not None
    assert cause in error.message


def test_a_fault_is_told_with_what_was_found_before_it() -> None:
    found = report("FROM a as b\nENV c=${d?no}\n")

    assert [each.rule.name for each in found.violations] == ["FromAsCasing"]
    assert found.error is not None
    assert "d: no" in found.error.message

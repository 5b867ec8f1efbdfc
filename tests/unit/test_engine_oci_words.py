"""Docker's words around a start or an exec that failed."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sampan.engine import oci_words
from sampan.errors import CommandNotFound, InvalidInput, NotExecutable, NotPermitted, SampanError

START = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("error", "said", "cause"),
    [
        (
            CommandNotFound('exec: "x": executable file not found in $PATH'),
            'exec: "x": executable file not found in $PATH: unknown',
            'exec: "x": executable file not found in $PATH',
        ),
        (
            CommandNotFound('exec: "/a: b": stat /a: b: no such file or directory: it is a link to /y'),
            'exec: "/a: b": stat /a: b: no such file or directory: unknown: it is a link to /y',
            'exec: "/a: b": stat /a: b: no such file or directory: it is a link to /y',
        ),
        (
            NotExecutable('exec: "/x": permission denied: its mode has no x'),
            'exec: "/x": permission denied: unknown: its mode has no x',
            'exec: "/x": permission denied: its mode has no x',
        ),
        (
            NotExecutable('exec: "/etc": is a directory: permission denied'),
            'exec: "/etc": is a directory: permission denied: unknown',
            'exec: "/etc": is a directory: permission denied',
        ),
        (
            InvalidInput('chdir to cwd ("/x") set in config.json failed: not a directory'),
            'chdir to cwd ("/x") set in config.json failed: not a directory: unknown',
            'chdir to cwd ("/x") set in config.json failed: not a directory',
        ),
        (
            NotPermitted("can't mount proc on /proc: operation not permitted"),
            "error during container init: can't mount proc on /proc: operation not permitted: unknown",
            "can't mount proc on /proc: operation not permitted",
        ),
    ],
)
def test_a_failure_is_said_as_docker_says_it_with_our_cause_behind(error: SampanError, said: str, cause: str) -> None:
    started = oci_words.of_start(type(error)(error.message, "do it"))

    assert (type(started), started.message, started.hint) == (type(error), f"{START}{said}", "do it")
    assert oci_words.of_exec(error).message == f"{EXEC}{said}"
    assert oci_words.cause_in(started.message) == cause


def test_what_dockers_daemon_finds_out_before_it_asks_the_runtime_has_none_of_its_words() -> None:
    error = InvalidInput("unable to find user x: no matching entries in passwd file")

    assert oci_words.of_start(error) is error
    assert oci_words.cause_in(error.message) == error.message


@given(st.sampled_from([CommandNotFound, InvalidInput]), st.text() | st.sampled_from([": unknown", '": x: unknown']))
def test_any_failure_keeps_its_own_words(kind: type[SampanError], text: str) -> None:
    for error in (kind(text), kind(f'exec: "{text}": permission denied: {text}')):
        assert oci_words.cause_in(oci_words.of_start(error).message) == error.message

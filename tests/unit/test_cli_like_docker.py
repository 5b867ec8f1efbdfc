"""The same words ask the same of the API, print the same and end alike: ours against what Docker's client did.

`make goldens` records tests/goldens/cli.json anew with the real client.
"""

from __future__ import annotations

import json
import shlex

import pytest

from sampan.cli.main import perform
from support.cli_cases import CASES, GOLDENS, environment, normalized, prepare
from support.recorder import Recorder

RECORDED = json.loads((GOLDENS / "cli.json").read_text())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli").resolve() / "here"
    path.mkdir()
    prepare(path)
    return path


@pytest.fixture(scope="module")
def recorder(directory):
    server = Recorder(directory / "docker.sock")
    yield server
    server.close()


@pytest.mark.parametrize("line", CASES)
def test_a_command_line_means_what_it_means_to_docker(line, recorder, directory, monkeypatch, capfd):
    recorder.requests.clear()
    for name, value in environment(directory).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SAMPAN_ROOT", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{directory}/docker.sock")
    monkeypatch.chdir(directory)

    status = perform(shlex.split(line))

    out, err = capfd.readouterr()
    assert normalized(status, out, err, recorder.requests, directory) == RECORDED[line]

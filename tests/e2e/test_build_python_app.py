"""The application that everybody builds first: a Debian with Python, its requirements, a server that answers."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sampan import Sampan, wait_until

DOCKERFILE = """\
FROM python:local
WORKDIR /app
ADD . /app
RUN pip install -r requirements.txt
EXPOSE 80
ENV NAME World
CMD ["python3", "app.py"]
"""
APP = """\
import http.server
import os

import greeting


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(greeting.to(os.environ["NAME"]).encode())


http.server.HTTPServer(("", 80), Handler).serve_forever()
"""
REQUIREMENTS = "--no-index\n--find-links wheels\ngreeting==1.0\n"
PYTHON = """\
FROM debian:bookworm
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
RUN --mount=type=bind,from=wheels,target=/wheels \
    python3 /wheels/pip.whl/pip install --ignore-installed --no-index --find-links /wheels pip
"""


@pytest.fixture
def python(debian: Sampan, tmp_path: Path) -> Iterator[Sampan]:
    """Yield an instance with an image that has Python and pip, built from Debian and the wheel that Python brings."""
    wheels = tmp_path / "pip"
    wheels.mkdir()
    (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    for name in (wheel.name, "pip.whl"):
        (wheels / name).write_bytes(wheel.read_bytes())
    debian("build", "-q", "-t", "python:local", "--build-context", f"wheels={wheels}", "-", input=PYTHON, timeout=120)
    yield debian
    debian.remove_everything()


def write_wheel(directory: Path) -> None:
    """Write a package of one module as a wheel, the way that PEP 427 has it."""
    files = {
        "greeting.py": "def to(name):\n    return f'Hello {name}\\n'\n",
        "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        "greeting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "greeting-1.0.dist-info/RECORD"
    hashed = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for name, text in files.items()}
    lines = [f"{name},sha256={hashed[name].decode().rstrip('=')},{len(files[name])}" for name in files]
    with zipfile.ZipFile(directory / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (*files.items(), (record, "\n".join([*lines, f"{record},,"]) + "\n")):
            wheel.writestr(name, text)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    (path / "wheels").mkdir(parents=True)
    write_wheel(path / "wheels")
    for name, text in (("Dockerfile", DOCKERFILE), ("app.py", APP), ("requirements.txt", REQUIREMENTS)):
        (path / name).write_text(text)
    return path


def test_an_application_with_requirements_is_built_and_answers_on_its_port(python: Sampan, context: Path) -> None:
    python("build", "-t", "app", context, timeout=120)
    python("run", "-d", "--name", "app", "-p", "127.0.0.1:4000:80", "app")

    def answer() -> bytes:
        with urllib.request.urlopen("http://127.0.0.1:4000", timeout=5) as got:
            return got.read()

    assert wait_until(lambda: _tried(answer), timeout=20, what="the application answers")
    assert answer() == b"Hello World\n"
    history = python("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", "app").lines
    assert [(text, size != "0B") for text, _, size in (line.partition("|") for line in history[:6])] == [
        ('CMD ["python3" "app.py"]', False),
        ("ENV NAME=World", False),
        ("EXPOSE [80/tcp]", False),
        ("RUN /bin/sh -c pip install -r requirements.txt # buildkit", True),
        ("ADD . /app # buildkit", True),
        ("WORKDIR /app", False),
    ]


def _tried(answer: object) -> bool:
    try:
        answer()  # type: ignore[operator]
    except OSError:
        return False
    return True


def test_after_a_change_of_the_program_only_what_depends_on_it_is_done_again(python: Sampan, context: Path) -> None:
    first = "ADD requirements.txt .\nADD wheels wheels\nRUN pip install -r requirements.txt\nADD . /app\n"
    (context / "Dockerfile").write_text(DOCKERFILE.replace("ADD . /app\nRUN pip install -r requirements.txt\n", first))
    python("build", "-q", context, timeout=120)
    (context / "app.py").write_text(APP + "\n# changed\n")

    told = python("build", "--progress=plain", context, timeout=120).err

    assert told.count(" CACHED") == 4

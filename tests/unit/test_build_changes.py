"""`--change` of commit and import."""

import re

import pytest

from sampan.build import changes
from sampan.errors import InvalidInput
from sampan.spec.image import ExecutionConfig


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"cmd": ("a", "b c")}),
        ("CMD echo $HOME", {"cmd": ("/bin/sh", "-c", "echo $HOME")}),
        ('entrypoint ["/x"]', {"entrypoint": ("/x",)}),
        ("ENV A=1 B='two words' C=\"$A-$HOME\" D=e\\ f", {"env": ("HOME=/h", "A=1", "B=two words", "C=-/h", "D=e f")}),
        ("ENV HOME the rest of it", {"env": ("HOME=the rest of it",)}),
        ("EXPOSE 80 53/udp 1-2", {"exposed_ports": {"80/tcp": {}, "53/udp": {}, "1/tcp": {}, "2/tcp": {}}}),
        ('LABEL a=b "c d"="e"', {"labels": {"a": "b", "c d": "e"}}),
        ("USER 1000:10", {"user": "1000:10"}),
        ("VOLUME /a /b", {"volumes": {"/a": {}, "/b": {}}}),
        ('VOLUME ["/a b"]', {"volumes": {"/a b": {}}}),
        ("WORKDIR a/../b", {"working_dir": "/b"}),
        ("STOPSIGNAL SIGINT", {"stop_signal": "SIGINT"}),
        ("ONBUILD RUN x", {"on_build": ("RUN x",)}),
        ("# nothing\n\nUSER a\nUSER b", {"user": "b"}),
    ],
)  # fmt: skip
def test_changes_are_dockerfile_instructions(change, expected):
    config = changes.apply(ExecutionConfig(env=("HOME=/h",)), [change])

    for field, value in expected.items():
        assert getattr(config, field) == value


def test_a_health_check_has_options():
    config = changes.apply(ExecutionConfig(), ["HEALTHCHECK --interval=5s --retries=3 CMD curl -f localhost"])

    assert config.healthcheck.test == ("CMD-SHELL", "curl -f localhost")
    assert (config.healthcheck.interval, config.healthcheck.retries) == (5_000_000_000, 3)
    assert changes.apply(config, ["HEALTHCHECK NONE"]).healthcheck.test == ("NONE",)


@pytest.mark.parametrize(
    "change",
    ["RUN x", "FROM a", "ENV A", "EXPOSE x", "EXPOSE 99999", "LABEL a", "LABEL 'a", "STOPSIGNAL NO",
     "ONBUILD FROM a", "HEALTHCHECK --nope CMD x", "HEALTHCHECK x", "HEALTHCHECK --interval=x CMD y"],
)  # fmt: skip
def test_bad_changes_are_named(change):
    with pytest.raises(InvalidInput, match=re.escape(f"can't apply {change!r}")):
        changes.apply(ExecutionConfig(), ["USER a", change])

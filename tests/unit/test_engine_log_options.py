"""--log-driver and --log-opt: what is refused in whose words, and what a shim is told."""

from __future__ import annotations

import pytest

from sampan.engine import log_options, syslog_address
from sampan.engine.log_tags import LoggedContainer, attributes, tag
from sampan.errors import InvalidInput

WEB = LoggedContainer(
    id="0123456789abcdef" * 4,
    name="web",
    image_id="sha256:fedcba98",
    image_name="busybox:1",
    command=("sh", "-c", "true"),
    hostname="box",
    labels={"app": "shop", "app.tier": "front", "zone": "a"},
    env=("PATH=/bin", "LANG=C", "EMPTY=", "BARE"),
)


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("nosuch", {}, 'error looking up logging plugin nosuch: plugin "nosuch" not found'),
        ("none", {"a": "b"}, "invalid logging opts for driver none"),
        ("json-file", {"a": "b"}, "unknown log opt 'a' for json-file log driver"),
        ("json-file", {"syslog-address": "udp://x"}, "unknown log opt 'syslog-address' for json-file log driver"),
        ("local", {"tag": "b"}, "unknown log opt 'tag' for log driver local"),
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("syslog", {"a": "b"}, "unknown log opt 'a' for syslog log driver"),
        ("json-file", {"max-size": "x"}, "invalid size: 'x'"),
        ("json-file", {"max-file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"compress": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
        (
            "json-file",
            {"compress": "true", "max-file": "1"},
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("local", {"compress": "true", "max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("json-file", {"mode": "x"}, "logger: logging mode not supported: x"),
        ("local", {"max-buffer-size": "1m"}, "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (
            "syslog",
            {"mode": "non-blocking", "max-buffer-size": "x"},
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
        ("syslog", {"cache-disabled": "x"}, "invalid value for option cache-disabled: x"),
        ("json-file", {"labels-regex": "("}, "error parsing regexp: "),
        ("syslog", {"syslog-address": "foo://x"}, "syslog-address should be in form proto://address, got foo://x"),
        ("syslog", {"syslog-address": "foo"}, "syslog-address should be in form proto://address, got foo"),
        ("syslog", {"syslog-address": "unix:///nosuch"}, "stat /nosuch: no such file or directory"),
        ("syslog", {"syslog-address": "udp://x:y"}, 'parse "udp://x:y": invalid port ":y" after host'),
        ("syslog", {"syslog-facility": "24"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "x"}, "Invalid syslog format"),
        ("journald", {"tag": "{{.Nope}}"}, "can't evaluate field Nope in type *logger.Info"),
        ("journald", {"tag": "{{"}, "template: log-tag:1: unclosed action"),
        ("syslog", {"tag": "{{.Name.x}}"}, "at <.Name.x>"),
        ("syslog", {"tag": "{{range .x}}"}, "can't understand {{range .x}} in the log's tag"),
    ],
)
def test_what_can_not_be_is_refused_in_docker_s_words(driver: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput) as found:
        log_options.check(driver, options)

    assert words in found.value.message


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("json-file", {"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a", "tag": "{{.Name}}"}),
        ("local", {"max-size": "-1", "max-file": "1", "mode": "non-blocking", "max-buffer-size": "4m"}),
        ("syslog", {"syslog-address": "tcp+tls://host", "syslog-facility": "local7", "cache-disabled": "true"}),
        ("journald", {"env": "A", "mode": "blocking"}),
    ],
)
def test_what_docker_takes_is_taken(driver: str, options: dict[str, str]) -> None:
    log_options.check(driver, options)


def test_a_driver_s_own_limits_and_those_of_the_copy() -> None:
    local = log_options.file_of("local", {}, "/c", "ID")
    copy = log_options.file_of("syslog", {"cache-max-size": "1m", "cache-max-file": "2"}, "/c", "ID")
    json = log_options.file_of("json-file", {"max-size": "0"}, "/c", "ID")

    assert (local.path, local.form, local.max_bytes, local.max_files, local.compress) == (
        "/c/container.log", "local", 20 << 20, 5, True,
    )  # fmt: skip
    assert (copy.path, copy.max_bytes, copy.max_files) == ("/c/container-cached.log", 1 << 20, 2)
    assert (json.path, json.form, json.max_files, json.compress) == ("/c/ID-json.log", "json", 3, False)
    assert log_options.file_of("syslog", {"cache-disabled": "1"}, "/c").path is None


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.ImageName}}/{{.Name}}/{{.ID}}", "busybox:1/web/0123456789ab"),
        ("{{ .DaemonName }}.{{- .Hostname -}}", "docker.box"),
        ("{{.ImageID}} {{.ImageFullID}}", "sha256:fedcb sha256:fedcba98"),
        ("{{.Command}}", "sh -c true"),
        ("{{.ContainerLabels.app}}", "shop"),
        ('{{index .ContainerLabels "app.tier"}}', "front"),
        ('{{index .ContainerLabels "none"}}|{{.ContainerLabels.none}}', "|<no value>"),
        ("{{(.ExtraAttributes nil).LANG}}", "C"),
        ("{{.Config}}", "map[env:LANG tag:{{.Config}}]"),
        ("", "default"),
    ],
)
def test_a_tag_is_a_template(template: str, text: str) -> None:
    assert tag(WEB, {"tag": template, "env": "LANG"}, "default") == text


def test_labels_and_variables_are_picked_by_name_and_by_expression() -> None:
    options = {"labels": "zone,none", "labels-regex": r"^app\.", "env": "LANG,BARE", "env-regex": "^EMP"}

    assert attributes(WEB, options) == {"zone": "a", "app.tier": "front", "LANG": "C", "EMPTY": ""}


@pytest.mark.parametrize(
    ("address", "network", "host", "port"),
    [
        ("udp://1.2.3.4:1111", "udp", "1.2.3.4", 1111),
        ("tcp://host", "tcp", "host", 514),
        ("tcp://[::1]:77", "tcp", "::1", 77),
        ("tcp+tls://host:6514", "tls", "host", 6514),
        ("unixgram:///dev/log", "unixgram", "/dev/log", 0),
    ],
)
def test_addresses_of_syslog(address: str, network: str, host: str, port: int) -> None:
    found = syslog_address.parse({"syslog-address": address})

    assert found[:3] == (network, host, port)
    assert bool(found.tls) == (network == "tls")


@pytest.mark.parametrize("template", ["{{" + " " * 100_000, "{{" * 100_000, "{{ -" * 100_000])
def test_a_tag_of_any_form_is_read_in_no_time(template: str) -> None:
    with pytest.raises(InvalidInput, match="unclosed action"):
        tag(WEB, {"tag": template}, "")


@pytest.mark.parametrize(
    "options",
    [
        {"syslog-address": "tcp://.example:514"},
        {"syslog-address": "tcp+tls://a..b:514"},
        {"syslog-address": f"udp://{'a' * 70}.example:514"},
        {"syslog-address": f"tcp://localhost:{'9' * 5000}"},
        {"syslog-facility": "9" * 5000},
        {"cache-max-file": "9" * 5000},
    ],
)
def test_what_python_has_an_error_of_its_own_for_is_the_clients_mistake(options: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        log_options.check("syslog", options)

"""`system doctor` and `system reset`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from support.sampan import PROGRAM, Sampan


def test_the_doctor_finds_this_host_fit(sampan: Sampan) -> None:
    said = sampan("system", "doctor")

    assert [line.split()[0] for line in said.lines if not line.startswith(" ")].count("FAILED") == 0
    assert "overlay" in said.out
    found = json.loads(sampan("system", "doctor", "--format", "json").out)
    assert {"kernel", "rights", "control groups", "firewall", "disk"} <= {finding["Check"] for finding in found}
    assert all(finding["Fix"] for finding in found if finding["Outcome"] != "ok")


def test_a_reset_leaves_nothing_but_the_settings(instance: Sampan, busybox_image: str) -> None:
    (instance.root / "config.toml").write_text("")
    instance("network", "create", "back")
    instance("run", "-d", "--name", "web", "--network", "back", "-v", "data:/data", busybox_image, "sleep", "100")
    instance("create", "--name", "idle", busybox_image, "true")

    assert "[y/N]" in instance("system", "reset", input="n\n").out
    assert instance("ps", "-q").lines
    said = instance("system", "reset", "-f")

    assert said.line == f"removed everything at {instance.root}"
    assert [path.name for path in instance.root.iterdir() if path.name != "home"] == ["config.toml"]
    assert instance("images", "--format", "{{.Repository}}").lines == ["host"]
    assert instance("ps", "-aq").lines == []
    assert instance("volume", "ls", "-q").lines == []
    assert instance("network", "ls", "--format", "{{.Name}}").lines == ["bridge", "host", "none"]


def test_the_unit_starts_this_instance_and_leaves_its_containers_alone(sampan: Sampan, tmp_path: Path) -> None:
    text = sampan("system", "service", "print").out

    assert f"ExecStart={PROGRAM} system start" in text
    assert f"Environment=SAMPAN_ROOT={sampan.root}" in text
    assert "KillMode=process" in text
    unit = tmp_path / "sampan.service"
    unit.write_text(text)
    if shutil.which("systemd-analyze"):
        said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        assert "sampan.service:" not in said.stderr
    assert "unknown action" in sampan.fails(125, "system", "service", "paint").err


def test_start_starts_the_engine(instance: Sampan) -> None:
    assert instance("system", "start").line == f"unix://{instance.socket}"
    assert instance("system", "stop").out == ""

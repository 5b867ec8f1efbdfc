"""A person's terminal: tmux, driven by keys and read by its screen."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.sampan import PROGRAM, Sampan, wait_until


class Terminal:
    """One tmux server with one window that runs a shell with this instance's environment."""

    def __init__(self, sampan: Sampan, directory: Path) -> None:
        self._socket = str(directory / "tmux")
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._settings(sampan).items())
        shell = f"env -i {exports} PS1='host$ ' sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell)
        self._tmux("set-option", "-g", "remain-on-exit", "on")
        self.shows("host$")

    @staticmethod
    def _settings(sampan: Sampan) -> Mapping[str, str]:
        path = f"{Path(PROGRAM).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"SAMPAN_ROOT": str(sampan.root), "PATH": path, "HOME": "/tmp", "TERM": "screen", "LC_ALL": "C.UTF-8"}

    def _tmux(self, *args: str) -> str:
        command = ["tmux", "-S", self._socket, *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def type(self, text: str, *keys: str) -> None:
        """Type text, then press keys by tmux's names (Enter, C-c, Escape)."""
        if text:
            self._tmux("send-keys", "-l", text)
        if keys:
            self._tmux("send-keys", *keys)

    def enter(self, line: str) -> None:
        self.type(line, "Enter")

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def shows(self, text: str, timeout: float = 15) -> str:
        """Wait until the screen has this text; return the screen."""
        found = wait_until(lambda: text in (screen := self.screen()) and screen, timeout=timeout, fail=False)
        assert found, f"not on the screen: {text}\n{self.screen()}"
        return str(found)

    def prompts(self, prompt: str) -> None:
        """Wait until the last line is this: what is typed while a shell sets the terminal's mode is lost."""
        found = wait_until(lambda: self.screen().rpartition("\n")[2].rstrip() == prompt, timeout=15, fail=False)
        assert found, f"no prompt: {prompt}\n{self.screen()}"

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def end(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False, capture_output=True)

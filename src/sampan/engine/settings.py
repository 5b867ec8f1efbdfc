"""The settings as they are in files now: /etc/sampan/config.toml, or the one that SAMPAN_CONFIG names, then ROOT's."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from sampan.dirs import SETTINGS
from sampan.errors import doing
from sampan.spec.settings import CERTIFICATES, Settings, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.dirs import Dirs

    Stamps = list[tuple[str, int, int, int] | None]


class SettingsFiles:
    """Reads the files when they have changed. Several threads may use it."""

    def __init__(self, dirs: Dirs, environment: Mapping[str, str] = os.environ) -> None:
        named = environment.get("SAMPAN_CONFIG")
        self._paths = [named or SETTINGS, dirs.settings]
        self._must_exist = {named}
        self._certificates = (dirs.certificates, *CERTIFICATES)
        self._lock = threading.Lock()
        self._stamps: Stamps | None = None
        self._settings = Settings()

    def read(self) -> Settings:
        """Return what is set now. Raises InvalidInput with the file and the key, NotFound for SAMPAN_CONFIG's file."""
        with self._lock:
            stamps = [self._stamp(path) for path in self._paths]
            if stamps != self._stamps:
                documents = [(path, self._text(path)) for path, stamp in zip(self._paths, stamps, strict=True) if stamp]
                self._settings = parse(documents, self._certificates)
                self._stamps = stamps
            return self._settings

    def _stamp(self, path: str) -> tuple[str, int, int, int] | None:
        with doing("can't read the configuration"):
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                if path in self._must_exist:
                    raise
                return None
            return path, status.st_mtime_ns, status.st_size, status.st_ino

    def _text(self, path: str) -> str:
        with doing("can't read the configuration"), open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

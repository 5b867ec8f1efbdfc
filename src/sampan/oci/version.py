"""The versions of the runtime specification that are understood."""

from __future__ import annotations

OCI_VERSION = "1.2.1"
OCI_VERSION_MIN = "1.0.0"

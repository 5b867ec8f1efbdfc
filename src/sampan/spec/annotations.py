"""Annotations of ours: what is asked of a container that Docker's API has no field for. Names only."""

HEALTH_ON_FAILURE = "sampan.health-on-failure"
"""What happens to a container that has become unhealthy: none, kill, restart or stop."""
TIMEOUT = "sampan.timeout"
"""After so many seconds it is killed."""
UMASK = "sampan.umask"
"""The program's file mode creation mask, in octal digits."""

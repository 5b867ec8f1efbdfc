"""Builds: from the text of a Dockerfile to steps, their cache keys and the layers that they make."""

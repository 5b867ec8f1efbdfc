"""Jobs of a worker that builds want: which files a step takes, the layer that they make, files from elsewhere."""

from __future__ import annotations

from typing import assert_never

import msgspec

from sampan.build import comparing, jobs, laying, leaks, selecting
from sampan.supervise import messages as m


def do(
    job: m.SelectFiles | m.LayFiles | m.FetchFiles | m.FindSecrets | m.CompareLayers, fds: tuple[int, ...]
) -> m.FilesSelected | m.Unpacked | m.FilesFetched | m.SecretsFound | m.LayersCompared:
    """Do it, and return the answer."""
    match job:
        case m.SelectFiles():
            selected = selecting.select(msgspec.json.decode(job.job, type=jobs.Select))
            return m.FilesSelected(digest=selected.digest, files=selected.files, content_bytes=selected.content_bytes)
        case m.LayFiles():
            return _lay(msgspec.json.decode(job.job, type=jobs.Lay))
        case m.FetchFiles():
            from sampan.build.fetching import fetch  # it needs what few builds do

            fetched = fetch(msgspec.json.decode(job.job, type=jobs.Fetch), fds[0] if fds else None)
            return m.FilesFetched(fetched=msgspec.json.encode(fetched))
        case m.FindSecrets():
            leak = leaks.Searcher(job.secrets).in_directory(job.directory)
            return m.SecretsFound(leak=str(leak) if leak else "")
        case m.CompareLayers(first=first, second=second):
            return m.LayersCompared(difference=comparing.difference(first, second))
        case _:
            assert_never(job)


def _lay(job: jobs.Lay) -> m.Unpacked:
    laid = laying.lay(job)
    return m.Unpacked(
        digest=laid.layer.digest,
        diff_id=laid.layer.diff_id,
        compressed_bytes=laid.layer.compressed_bytes,
        content_bytes=laid.layer.content_bytes,
        tar_bytes=laid.layer.tar_bytes,
        selection=laid.digest,
    )

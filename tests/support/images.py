"""Root filesystems to run from: a BusyBox made here, and Debian with real servers, made once by mmdebstrap and kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

from support.network import of_the_host

BUSYBOX = "/bin/busybox"
APPLETS = (
    "sh ls cat echo true false sleep id env pwd hostname ps kill mount umount mkdir rmdir rm ln cp mv touch chmod "
    "chown stat df head tail wc grep sed awk cut sort uniq seq tr dd od hexdump date uname whoami groups tty stty "
    "test expr find xargs tee yes vi nc wget httpd ip ifconfig nproc free top unshare nsenter chroot pivot_root "
    "mknod readlink realpath sync usleep timeout sha256sum"
).split()
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n"
    "user:x:1000:1000:A User:/home/user:/bin/sh\n",
    "etc/group": "root:x:0:\nwheel:x:10:user\naudio:x:29:user\nuser:x:1000:\nnogroup:x:65534:\n",
    "etc/hostname": "image\n",
}

DEBIAN_PACKAGES = "python3,nginx-light,redis-server,postgresql,procps,iproute2"


def cache() -> Path:
    """Where slow downloads stay between runs, outside the checkout."""
    base = os.environ.get("SAMPAN_TEST_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "/var/cache", "sampan-tests"
    )
    Path(base).mkdir(parents=True, exist_ok=True)
    return Path(base)


def busybox_tar(target: Path) -> Path:
    """Write the tar of a root filesystem with one static program and a few users."""
    with tarfile.open(target, "w") as tar:
        for name in ("bin", "etc", "root", "home", "home/user", "tmp", "var", "var/tmp", "proc", "sys", "dev"):
            add(tar, name, type=tarfile.DIRTYPE, mode=0o1777 if name.endswith("tmp") else 0o755)
        for name, text in FILES.items():
            add(tar, name, text.encode())
        add(tar, "bin/busybox", Path(BUSYBOX).read_bytes(), mode=0o755)
        for applet in APPLETS:
            add(tar, f"bin/{applet}", type=tarfile.SYMTYPE, linkname="busybox")
    return target


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    """Add one member; fields are TarInfo's."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), 1_700_000_000
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def oci_layout(
    directory: Path, layers: list[Path], name: str, created: str = "2024-01-02T03:04:05Z", **config: object
) -> str:
    """Write an OCI layout with one image of these tars; return skopeo's name of it."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids = ["sha256:" + hashlib.sha256(layer.read_bytes()).hexdigest() for layer in layers]
    configuration = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(configuration).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer.read_bytes(), 1, mtime=0), "layer.v1.tar+gzip") for layer in layers],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{directory}:{name}"


def debian_tar() -> Path:
    """Return the cached tar of a Debian with python3, nginx, redis and postgres; mmdebstrap makes it the first time."""
    target = cache() / "debian-servers-2.tar"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}.tar")
        argv = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={DEBIAN_PACKAGES}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--aptopt=APT::Install-Recommends=false",
            "bookworm",
            str(partial),
        ]
        with of_the_host():
            subprocess.run(argv, check=True, timeout=900, stdin=subprocess.DEVNULL)
        partial.rename(target)
    return target

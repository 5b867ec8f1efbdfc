"""Run tests on pure cgroup v2: boot Debian's cloud kernel in qemu, with this checkout's environment, and pytest there.

    python tools/cgroup2/run.py [pytest arguments]

The disk image holds the interpreter, its libraries, the packages that tests need and the checkout, all at the paths
that they have here, so `.venv` works in the machine as it is. Kernel and image are kept in the tests' cache; the image
is a few seconds' work and is made every time. What the machine prints goes to stdout; the exit code is pytest's.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from initramfs import initramfs  # noqa: E402

from support.images import cache  # noqa: E402

TESTS = tuple(
    f"tests/e2e/test_{name}.py"
    for name in ("cgroup_parent", "limits", "devices", "pause_and_kill", "apparmor", "oci_cgroups", "oci_checkpoint")
)
TESTS += tuple(
    f"tests/e2e/test_why.py::test_{name}"
    for name in (
        "out_of_memory_names_the_process_the_limit_and_a_command_that_helps",
        "a_limit_of_processes_is_named_with_a_command_that_helps",
    )
)
TESTS += tuple(f"tests/kernel/test_runtime_{name}.py" for name in ("resources", "hooks", "namespaces"))
TESTS += tuple(
    f"tests/e2e/test_disk_limits.py::test_{name}"
    for name in (
        "a_container_writes_as_much_as_it_may_and_no_more",
        "the_limit_goes_with_the_container",
        "a_volume_holds_as_much_as_it_may",
    )
)
TESTS += ("tests/kernel/test_network_macvlan.py", "tests/kernel/test_firewall_sctp.py", "tests/e2e/test_macvlan.py")
MODULES = (
    "virtio_pci", "virtio_blk", "overlay",
    "bridge", "veth", "macvlan", "ipvlan", "dummy", "8021q",
    "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_fib_inet", "nft_reject_inet",
    "nf_conntrack_netlink", "sctp",
    "nft_compat", "xt_mark",
    "loop", "quota_v2",
    "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "unix_diag", "netlink_diag", "af_packet_diag",
)  # fmt: skip
LINTERS = (
    "mypy",
    "pyroute2",
    "mypyc",
    "pip",
    "setuptools",
    "pkg_resources",
    "grimp",
    "importlinter",
    "librt",
    "ast_serialize",
)
ORACLES = ("pyroute2",)
NOT_NEEDED = ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "site-packages", "pydoc_data")
PROGRAMS = [
    "sh",
    "bash",
    "readlink",
    "mount",
    "umount",
    "nsenter",
    "unshare",
    "cat",
    "ls",
    "perl",
    "ldconfig",
]
PROGRAMS += [
    "mktemp",
    "rm",
    "mkdir",
    "rmdir",
    "dirname",
    "mknod",
    "ln",
    "chown",
    "ip",
    "nft",
]  # what --explain=sh calls
PROGRAMS += [
    "criu",
    "mkfs.ext4",
    "tar",
    "gzip",
    *(f"{name}-{verb}" for name in ("iptables", "ip6tables") for verb in ("save", "restore")),
]
KERNEL = "console=ttyS0 quiet loglevel=1 panic=-1 cgroup_no_v1=all mitigations=off tsc=reliable random.trust_cpu=on"
BOOT_LIMIT_S, RUN_LIMIT_S = 120, 1000
FIRMWARE = re.compile(r"\x1bc?(\[[0-9?]*[a-zA-Z])?|\r|SeaBIOS.*|Booting from ROM\.*")
VERDICT = re.compile(r"pytest in the machine ended with (\d+)")


def main() -> int:
    tests = sys.argv[1:] or [test for test in TESTS if (TOP / test.partition("::")[0]).exists()]
    with tempfile.TemporaryDirectory(prefix="sampan-vm-") as directory:
        work = Path(directory)
        started = time.monotonic()
        kernel, apparmor = fetch(kernel_package()), fetch("apparmor")
        modules = with_dependencies(kernel, MODULES)
        (work / "initrd").write_bytes(initramfs(Path("/bin/busybox"), modules))
        disk = make_disk(work, tests, apparmor)
        print(f"machine made in {time.monotonic() - started:.0f} s", flush=True)
        return boot(next(kernel.glob("boot/vmlinuz-*")), work / "initrd", disk)


def kernel_package() -> str:
    """Return the name of the package that has Debian's current cloud kernel."""
    depends = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=False
    )
    found = re.search(r"linux-image-\S+-cloud-amd64", depends.stdout)
    if not found:
        subprocess.run(["apt-get", "update", "-q"], check=True)
        return kernel_package()
    return found.group()


def fetch(package: str) -> Path:
    """Return the directory in which this package's files are, unpacked once and not installed."""
    target = cache() / package
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as work:
            command = ["apt-get", "-o", "APT::Sandbox::User=root", "-q", "download", package]
            subprocess.run(command, cwd=work, check=True)
            (archive,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, f"{work}/tree"], check=True)
            Path(work, "tree").rename(target)
    return target


def with_dependencies(kernel: Path, names: Iterable[str]) -> list[Path]:
    """Return modules and those that they need, in the order in which they can be loaded."""
    files = {path.stem.replace("-", "_"): path for path in kernel.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        needed = re.search(rb"\0depends=([^\0]*)", files[name].read_bytes())
        for other in needed.group(1).decode().split(",") if needed else ():
            if other and other.replace("-", "_") not in order:
                add(other.replace("-", "_"))
        order[name] = files[name]

    for name in names:
        add(name)
    return list(order.values())


def make_disk(work: Path, tests: list[str], apparmor: Path) -> Path:
    """Make an ext4 image whose tree is what the tests need of this machine."""
    root = work / "root"
    for name in (
        "bin",
        "dev",
        "etc",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "var/tmp",
        "var/lib",
        "var/cache",
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
            (root / "usr" / name).mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")

    stdlib = Path(os.__file__).parent
    copy(root, stdlib, skip=NOT_NEEDED)
    interpreter = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    programs = [interpreter, Path("/bin/busybox"), *(Path(p) for name in PROGRAMS if (p := shutil.which(name)))]
    for program in programs:
        copy(root, program)
    site = Path(sys.prefix, "lib", stdlib.name, "site-packages")
    environment = [path for path in site.iterdir() if path.name not in LINTERS + ORACLES and "mypyc" not in path.name]
    environment += [*Path(sys.prefix, "bin").glob("python*"), *Path(sys.prefix, "bin").glob("sampan*")]
    environment += [
        Path(sys.prefix, "pyvenv.cfg"),
        TOP / "src",
        TOP / "tests",
        TOP / "pyproject.toml",
        Path(__file__).parent,
    ]
    for path in environment:
        copy(root, path)
    if not (root / "bin/sh").exists():  # what scripts name
        (root / "bin/sh").symlink_to("busybox")
    extensions = [path for tree in (stdlib, site) for path in tree.rglob("*.so") if (root / str(path)[1:]).exists()]
    parser = apparmor / "sbin/apparmor_parser"
    shutil.copy2(parser, root / "usr/sbin/apparmor_parser")
    for name in ("apparmor", "apparmor.d"):
        shutil.copytree(apparmor / "etc" / name, root / "etc" / name, symlinks=True)
    shutil.copytree(apparmor / "usr/share/apparmor-features", root / "usr/share/apparmor-features")
    for library in libraries([*programs, *extensions, parser]):
        copy(root, library)
    for library in (*Path("/usr/lib").glob("*/libseccomp.so.2*"), *Path("/usr/lib").glob("*/xtables")):
        copy(root, library)

    quoted = shlex.join(tests)
    (root / "init").write_text(
        f"#!{sys.executable}\nimport runpy, sys\nsys.argv[1:] = {shlex.split(quoted)!r}\n"
        f"runpy.run_path({str(Path(__file__).with_name('machine.py'))!r}, run_name='__main__')\n"
    )
    (root / "init").chmod(0o755)
    image = work / "disk"
    subprocess.run(
        ["mke2fs", "-qF", "-t", "ext4", "-d", root, "-N", "60000", image, "900M"], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(root)
    return image


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that these need, and the loader, under the names that they ask for."""
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    return {Path(name) for name in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}


def copy(root: Path, source: Path, skip: tuple[str, ...] = ()) -> None:
    """Copy a file or tree to its own path under `root`, with its links followed as far as they lead."""
    target = root / str(source)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*skip, "config-3*")
        )
    elif source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(os.readlink(source))
        copy(root, source.parent / os.readlink(source))
    elif not target.exists():
        shutil.copy2(source, target)


def boot(kernel: Path, initrd: Path, disk: Path) -> int:
    """Boot, pass on what comes over the serial line, and return the exit code that it names; 1 if it names none."""
    command = [
        "timeout", "--foreground", "--signal=KILL", str(BOOT_LIMIT_S + RUN_LIMIT_S),
        "qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-accel", os.environ.get("SAMPAN_VM_ACCEL", "tcg"),
        "-smp", "2", "-m", "1536", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-monitor", "none",
        "-kernel", kernel, "-initrd", initrd, "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
        "-append", KERNEL,
    ]  # fmt: skip
    verdict = 1
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as machine:
        assert machine.stdout
        for line in machine.stdout:
            if found := VERDICT.search(line):
                verdict = int(found.group(1))
            else:
                sys.stdout.write(FIRMWARE.sub("", line))
                sys.stdout.flush()
    return verdict


if __name__ == "__main__":
    sys.exit(main())

"""What a container gets when nobody says otherwise: pure data, each list with its source.

* `capabilities`: Docker's set of 14, as its page "Runtime privilege and Linux capabilities" documents it.
* `paths`: what of /proc and /sys is hidden or read-only: Docker's lists, with what security advisories added.
* `devices`: nodes and links of the OCI runtime specification (config-linux, "Default Devices"), and the device rules.
* `seccomp.json`: the system calls allowed, written from the kernel's tables for the same effect as Docker's documented
  default, in Docker's JSON form. `tools/make_seccomp.py` compiles it to `seccomp/ARCHITECTURE-VARIANT.bpf`.
"""

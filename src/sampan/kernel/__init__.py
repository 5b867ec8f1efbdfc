"""The door to the kernel: one function is one kernel call. Python types in, `SyscallError` out, no policy.

What a container's init calls between clone and exec needs nothing of the filesystem: symbols are bound and types made
when a module is imported, so that no call imports, loads a library or looks up a codec later (CVE-2019-14271). The
exceptions are for the server and say so: `seccomp.compile`, `features.probe`.
"""

"""The door to the kernel: one function is one kernel call. Python types in, `SyscallError` out, no policy.

Everything here may be called after `pivot_root` and between clone and exec: all symbols are bound and all types are made
when a module is imported, so that no call imports, loads a library or looks up a codec later (CVE-2019-14271).
"""

"""OCI and Docker types: data only. Nothing here touches a file, a clock or the kernel."""

"""The processes: keeper, shim and worker, and the messages between them and the server (DESIGN: Processes)."""

"""The command line: a client of the engine's API, with Docker's verbs, flags, columns and exit statuses."""

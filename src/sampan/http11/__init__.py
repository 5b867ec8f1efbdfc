"""HTTP/1.1 for the servers, the engine's API and the registry: a connection's requests and answers, and who accepts."""

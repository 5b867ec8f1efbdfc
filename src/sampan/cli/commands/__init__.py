"""One verb a module. Each has a `COMMAND`: its usage, its flags as data, and the function that does it."""

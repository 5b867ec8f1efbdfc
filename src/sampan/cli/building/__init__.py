"""`sampan build` on the client's side: its flags, its request, its files, and how its progress is shown."""

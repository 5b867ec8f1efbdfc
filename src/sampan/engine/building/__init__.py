"""`build`: Dockerfiles performed. What `sampan.build` has computed becomes containers, layers and images here."""

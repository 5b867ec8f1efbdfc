"""What tests share: the installed program with a private root, images, a registry, leak checks."""

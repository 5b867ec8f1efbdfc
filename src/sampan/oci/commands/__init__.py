"""One command of `sampan-runtime` a module, imported when it is asked for."""

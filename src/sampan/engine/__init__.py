"""The engine: Docker's verbs over images, root filesystems, plans and shims, and the state that outlives it."""

"""`--dockerfile`: a lock as a plain Dockerfile with its context. `eject` is the entry."""

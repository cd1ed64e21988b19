"""Registries: `publish` finds where to, `sign_in` how, `push` sends; `http` is how runner itself asks a registry."""

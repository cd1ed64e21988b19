"""Conda packages: `solve` chooses them, `fetch` has them in the cache folder, and the step conda.sh installs them."""

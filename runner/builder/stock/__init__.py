"""What there is: images on the engine (`images`, `prune`), and what images, files and machines hold (`sides`, `diff`)."""

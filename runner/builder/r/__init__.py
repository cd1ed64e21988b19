"""R packages: which are needed, from where each is had, and what the system must hold for them.

`resolver` decides, `remotes` has what stands in no repository, `repository` makes the one that R installs from,
`sysreqs` names the Debian packages. Everything is fetched on this machine, not in the container: the user's proxy, CA
bundle and `file://` repositories then work as they are, and downloads are cached.
"""

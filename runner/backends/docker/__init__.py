"""The backend `docker`: containers of a Docker engine, spoken to over its socket.

`backend` is the protocol; `request` what a container is made of, `images` what must be known of its image, `starting` and
`logs` what goes on while it runs, `boxes` whose the attempt's folder is.
"""

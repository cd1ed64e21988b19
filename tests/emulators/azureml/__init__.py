"""An Azure Machine Learning workspace on loopback, which any client can be led to by HTTPS_PROXY; see README.md here."""

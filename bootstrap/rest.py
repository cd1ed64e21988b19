"""HTTPS as jobs on Azure ML need it: one request at a time, by the machine's proxy and certificates, no redirect followed.

Standard library only, Python 3.8 syntax. urllib and ssl (60 ms, 10 MB) are imported by the first request.
"""

import os

ANSWER_MOST = 1 << 20  # bytes read of an answer
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # OpenSSL itself looks at SSL_CERT_FILE


class UnreachableError(Exception):
    """No answer came; the text says why, in the system's words."""


class Answer:
    """status: of HTTP. text: its body. retry_after: seconds that the service asks to wait, or None."""

    def __init__(self, status: int, body: bytes, retry_after) -> None:
        self.status, self.text = status, body.decode("utf-8", "replace")
        self.retry_after = float(retry_after) if retry_after and retry_after.isdigit() else None

    def json(self) -> dict:
        """The body, or nothing where it is no object."""
        import json

        try:
            value = json.loads(self.text)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def words(self) -> str:
        """How the service explains itself, as one line of at most 300 characters."""
        found = self.json()
        error = found.get("error")
        inner = error if isinstance(error, dict) else found
        said = inner.get("message") or inner.get("error_description") or inner.get("error_code") or error or ""
        text = " ".join(str(said).split())
        return f"HTTP {self.status}" + (f": {text[:300]}" if text else "")


def request(method: str, url: str, headers: dict, body=None, timeout: float = 10.0, proxied: bool = True) -> Answer:
    """Sends it, and returns whatever was answered.

    Args:
        body: what is sent as JSON, or None. timeout: seconds for each read. proxied: False for endpoints of this machine.

    Raises:
        UnreachableError: nothing was answered, or this Python cannot do HTTPS.
    """
    try:
        import json
        import urllib.error
        import urllib.request

        found = urllib.request.Request(url, method=method, headers=dict(headers))
        if body is not None:
            found.data = json.dumps(body).encode("utf-8")
            found.add_header("Content-Type", "application/json")
        try:
            with _opener(proxied).open(found, timeout=timeout) as answer:
                return Answer(answer.status, answer.read(ANSWER_MOST), answer.headers.get("Retry-After"))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(ANSWER_MOST), error.headers.get("Retry-After"))
    except Exception as error:  # ssl, sockets, http.client and modules that an image lacks: each has errors of its own
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__) from None


def _opener(proxied: bool):
    """Without the handler of redirects: it would show the token to whoever is named there."""
    import ssl
    import urllib.request as library

    bundle = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    context = ssl.create_default_context(cafile=bundle if bundle and os.path.isfile(bundle) else None)
    opener = library.OpenerDirector()
    for handler in (
        library.ProxyHandler(None if proxied else {}), library.HTTPHandler(), library.HTTPSHandler(context=context),
        library.HTTPDefaultErrorHandler(), library.HTTPErrorProcessor(), library.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener

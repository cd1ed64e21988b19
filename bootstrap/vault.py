"""Secrets of a job on Azure ML, read from Key Vault by the identity of its compute, and handed over in a file of our own.

A value is in no argument, no message and no environment but the script's. Standard library only, Python 3.8 syntax.
"""

import os
import re
import time

import rest

API = "7.4"
TRIES, PAUSE_S = 4, 2.0  # of one request; the pause doubles
IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"  # where it is not, nothing answers at all
VAULT = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
NAME = re.compile(r"[A-Za-z0-9-]{1,127}")
DNS = {"AzureChinaCloud": "vault.azure.cn", "AzureUSGovernment": "vault.usgovcloudapi.net"}
TMPFS = "/dev/shm"
ROLE = "the role Key Vault Secrets User on it (or, in a vault with access policies, the permission Get for secrets)"


class SecretError(Exception):
    """Row SecretMissing of the record: what could not be read, and what helps. retryable: trying again may cure it."""

    def __init__(self, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def read(references: dict, job: dict) -> dict:
    """The values, by the names of the script's variables.

    Args:
        references: variable -> `VAULT/NAME`. job: the environment that Azure gave the job.

    Raises:
        SecretError: of the first that cannot be had.
    """
    domain = DNS.get(job.get("AZUREML_CURRENT_CLOUD", ""), "vault.azure.net")
    wanted = {variable: split(reference) for variable, reference in references.items()}
    if not wanted:
        return {}
    token = sign_in(f"https://{domain}", job)
    known, values = {}, {}
    for variable, place in wanted.items():
        if place not in known:
            known[place] = fetch(*place, domain, token)
        values[variable] = known[place]
    return values


def split(reference: str) -> tuple:
    """(vault, name). Raises SecretError."""
    vault, _, name = reference.partition("/")
    if not VAULT.fullmatch(vault) or not NAME.fullmatch(name):
        raise SecretError(f"{reference} names no secret of Key Vault: expected VAULT/NAME")
    return vault, name


def write(values: dict, folder=None) -> str:
    """Writes the bootstrapper's secrets file (mode 0600, on tmpfs where there is one), which it unlinks; the file's path."""
    import json
    import tempfile

    if folder is None and os.path.isdir(TMPFS) and os.access(TMPFS, os.W_OK):
        folder = TMPFS
    fd, path = tempfile.mkstemp(prefix="runner-", suffix=".json", dir=folder)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(values, file)
    return path


def sign_in(resource: str, job: dict) -> str:
    """A token of the compute's managed identity. Raises SecretError."""
    url, headers = endpoint(resource, job)
    try:
        answer = patiently("GET", url, headers, proxied=False, timeout=2.0 if url.startswith(IMDS) else 10.0)
    except rest.UnreachableError as error:
        raise SecretError(no_identity(str(error)), retryable=True) from None
    token = answer.json().get("access_token")
    if answer.status != 200 or not isinstance(token, str) or not token.isprintable():
        raise SecretError(no_identity(answer.words()), retryable=answer.status >= 500)
    return token


def endpoint(resource: str, job: dict) -> tuple:
    """(URL, headers) of whoever gives tokens here: by App Service's protocol, else Azure ML's, else the machine's."""
    from urllib.parse import urlencode

    client = job.get("DEFAULT_IDENTITY_CLIENT_ID")
    query = {"api-version": "2018-02-01", "resource": resource}
    url, headers, named = IMDS, {"Metadata": "true"}, "client_id"
    if job.get("IDENTITY_ENDPOINT") and job.get("IDENTITY_HEADER"):
        url, headers = job["IDENTITY_ENDPOINT"], {"X-IDENTITY-HEADER": job["IDENTITY_HEADER"]}
        query["api-version"] = "2019-08-01"
    elif job.get("MSI_ENDPOINT") and job.get("MSI_SECRET"):
        url, headers, named = job["MSI_ENDPOINT"], {"secret": job["MSI_SECRET"]}, "clientid"
        query["api-version"] = "2017-09-01"
    if client:
        query[named] = client
    return url + ("&" if "?" in url else "?") + urlencode(query), headers


def no_identity(why: str) -> str:
    """The sentence for a compute without an identity that we could use."""
    return (
        f"no managed identity of this compute could be used to read secrets ({why}); give it one"
        " (az ml compute update --name COMPUTE --identity-type SystemAssigned), and the identity " + ROLE
    )


def fetch(vault: str, name: str, domain: str, token: str) -> str:
    """One secret's value. Raises SecretError."""
    url = f"https://{vault}.{domain}/secrets/{name}?api-version={API}"
    what = f"the secret {name} of the vault {vault}"
    try:
        answer = patiently("GET", url, {"Authorization": "Bearer " + token})
    except rest.UnreachableError as error:
        message = f"{what} could not be read: {vault}.{domain} cannot be reached from this compute ({error})"
        raise SecretError(message + "; check the vault's name and its firewall", retryable=True) from None
    value = answer.json().get("value")
    if answer.status == 200 and isinstance(value, str):
        return value
    if answer.status == 404:
        raise SecretError(f"{what} is not there; make it: az keyvault secret set --vault-name {vault} --name {name} …")
    words = answer.words().replace(token, "***")
    if answer.status in (401, 403):
        raise SecretError(f"{what} may not be read by {who(token)} ({words}): {fix(answer)}")
    raise SecretError(f"{what} could not be read ({words})", retryable=answer.status >= 500)


def fix(answer: rest.Answer) -> str:
    """What helps against a refusal, by what Key Vault names as its inner cause."""
    error = answer.json().get("error")
    inner = error.get("innererror") if isinstance(error, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    if code == "ForbiddenByFirewall":
        return "the vault's firewall does not let this compute in; add its network there"
    if code == "SecretDisabled":
        return "the secret is disabled; enable it"
    return "give it " + ROLE


def who(token: str) -> str:
    """Whose token it is, in words; its object id is what a role is given to."""
    import base64
    import json

    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return f"the compute's identity (object id {str(claims['oid'])[:64]})"
    except (ValueError, IndexError, KeyError, TypeError):
        return "the compute's identity"


def patiently(method: str, url: str, headers: dict, proxied: bool = True, timeout: float = 10.0) -> rest.Answer:
    """One request, repeated while the other side is overloaded or not there. Raises UnreachableError."""
    pause = PAUSE_S
    for _ in range(TRIES - 1):
        try:
            answer = rest.request(method, url, headers, proxied=proxied, timeout=timeout)
        except rest.UnreachableError:
            asked = 0.0
        else:
            if answer.status not in (408, 410, 429) and answer.status < 500:
                return answer
            asked = answer.retry_after or 0.0
        time.sleep(min(30.0, max(pause, asked)))
        pause *= 2
    return rest.request(method, url, headers, proxied=proxied, timeout=timeout)

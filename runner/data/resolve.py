"""URI → place: mirrors, data assets and datastores of runner.yaml applied until a path or a URL is left. Pure but for links.

Names lead where runner.yaml says and nowhere else: a path that would leave its datastore is refused, before and after
percent-encoding is undone, and through links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runner.data.place import Place, identity, without_login
from runner.job import NOWHERE, DataType, Where
from runner.spec import names
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from runner.spec.config import Config
    from runner.spec.mappings import Location, Origin

SCHEMES = ("file", "https", "http", "wasbs", "wasb", "abfss", "abfs", "s3", "gs", "adl", "azureml")
_HOPS = 16
_DATASTORE = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/Microsoft\.MachineLearningServices/)?"
    r"workspaces/[^/]+/)?datastores/(?P<name>[^/]+)(?:/paths(?:/(?P<path>.*))?)?/?",
    re.IGNORECASE | re.DOTALL,
)


def resolve(uri: str, config: Config, *, where: Where = NOWHERE) -> Place:
    """Where data is, or is to go.

    Args:
        uri: see `runner.job.Data.uri`.
        where: what an error points to.

    Raises:
        SpecError: not mapped (the hint is the line to add), leads out of its datastore, of an unknown kind, a pattern.
    """
    return _Walk(uri, config, where).place()


class _Walk:
    """The hops from one URI to its place."""

    def __init__(self, uri: str, config: Config, where: Where) -> None:
        self.uri, self.config, self.where = uri, config, where
        self.shown = without_login(uri) if "://" in uri else uri
        self.root: Path | None = None
        self.origin: Origin | None = None
        self.type: DataType | None = None

    def place(self) -> Place:
        uri = self.uri
        if "\0" in uri:
            raise self.where.error("an address holds no NUL character")
        for _ in range(_HOPS):
            if uri.startswith("/"):
                return self._local(Path(uri))
            scheme = self._scheme(uri)
            if (mirrored := self._mirrored(uri)) is not None:
                uri = mirrored
            elif scheme == "file":
                uri = self._file(uri)
            elif scheme == "azureml":
                uri = self._azureml(uri)
            else:
                return self._remote(uri, scheme)
        raise self.where.error(f"{self.shown}: the lines of runner.yaml lead in a circle")

    def _scheme(self, uri: str) -> str:
        self._path_of(uri)
        scheme = uri.partition(":")[0].lower()
        if scheme in SCHEMES and ":" in uri:
            return scheme
        if ":" not in uri:
            raise self.where.error(f"{uri} is neither an absolute path nor a URL")
        near = nearest(scheme, SCHEMES)
        hints = [f"did you mean {near}:?"] if near else []
        raise self.where.error(f"{self.shown}: addresses of the kind {scheme}: are not known", *hints,
                               f"known: {', '.join(SCHEMES)}")  # fmt: skip

    def _mirrored(self, uri: str) -> str | None:
        """What `urls:` makes of it; None where no line is for it."""
        whole, _, query = identity(uri).partition("?")  # a login is for the address that it stands in, not for a mirror
        best = max((prefix for prefix in self.config.urls if _begins(whole, prefix)), key=len, default=None)
        if best is None:
            return None
        found = self.config.urls[best]
        rest = _rest(whole, best)
        if found.path is not None:
            return self._inside(found, rest)
        self.origin = found.origin
        base = found.target.rstrip("/") + "/" + rest.lstrip("/") if rest else found.target
        return f"{base}?{query}" if query else base

    def _file(self, uri: str) -> str:
        parts = urlsplit(uri)
        path = unquote(parts.path)
        if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
            raise self.where.error(f"{self.shown} names no file of this machine", "expected file:///PATH")
        return path

    def _azureml(self, uri: str) -> str:
        datastore = _DATASTORE.fullmatch(uri.partition("?")[0])
        if datastore is not None:
            return self._datastore(unquote(datastore["name"]), datastore["path"] or "")
        found = names.asset(self.config, uri)
        if found is None:
            raise self._unmapped("data", uri)
        self.type = self.type or found.type
        self.origin, self.root = found.origin, None
        return found.target

    def _datastore(self, name: str, path: str) -> str:
        found = self.config.datastores.get(name)
        if found is None:
            raise self._unmapped("datastore", name)
        if found.path is not None:
            return self._inside(found, path)
        self._refuse_climbing(path)
        self.origin = found.origin
        base, _, query = found.target.partition("?")
        joined = base.rstrip("/") + "/" + path.lstrip("/") if path else base
        return f"{joined}?{query}" if query else joined

    def _inside(self, found: Location, rest: str) -> str:
        """The path below a mapped folder."""
        self._refuse_climbing(rest)
        self.root, self.origin = found.path, found.origin
        return str(Path(found.target, *(part for part in unquote(rest).split("/") if part not in {"", "."})))

    def _refuse_climbing(self, path: str) -> None:
        parts = unquote(path).replace("\\", "/").split("/")
        if ".." in parts or "\0" in unquote(path):
            raise self.where.error(f"{self.shown} leads out of where it begins", "write the path without ..")

    def _local(self, path: Path) -> Place:
        if self.root is not None:
            try:
                inside = path.resolve().is_relative_to(self.root.resolve())
            except (OSError, RuntimeError):  # a loop of links
                inside = False
            if not inside:
                raise self.where.error(
                    f"{self.shown}: a link leads out of {self.root}", "map the folder that it leads to as well"
                )
        return Place(self.shown, path, root=self.root, origin=self.origin, type=self.type)

    def _remote(self, url: str, scheme: str) -> Place:
        path = self._path_of(url, host=True)
        if scheme not in {"http", "https"} and re.search(r"[*?\[]", path):
            raise self.where.error(
                f"{self.shown}: patterns stand in an MLTable only",
                "name the folder, or write an MLTable with `pattern:`",
            )
        self._refuse_climbing(path)
        return Place(self.shown, url=url, origin=self.origin, type=self.type)

    def _path_of(self, url: str, *, host: bool = False) -> str:
        """The path in a URL; `host`: which has to name one."""
        try:
            parts = urlsplit(url)
            whole = not host or (bool(parts.hostname) and parts.port != 0 and not re.search(r"[\s\\]", parts.netloc))
        except ValueError:  # a broken port or IPv6 address, characters that no name has
            whole = False
        if not whole:
            raise self.where.error(f"{self.shown} is no address: it names no host")
        return parts.path

    def _unmapped(self, kind: names.Kind, name: str) -> Exception:
        problem = names.unmapped(self.config, kind, name, self.where)
        reason = f"the datastore {problem.reason}" if kind == "datastore" else problem.reason
        return self.where.error(reason, problem.way_out)


def _canonical(url: str) -> str:
    """With scheme and host in small letters, as they are compared."""
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    host, slash, path = rest.partition("/")
    user, at, name = host.rpartition("@")
    return f"{scheme.lower()}://{user}{at}{name.lower()}{slash}{path}"


def _begins(url: str, prefix: str) -> bool:
    """Whether a URL begins with a prefix, at the end of a part: `…/a` is no beginning of `…/ab`."""
    whole, start = _canonical(url), _canonical(prefix)
    return whole.startswith(start) and (start.endswith("/") or whole[len(start) :][:1] in {"", "/"})


def _rest(url: str, prefix: str) -> str:
    return _canonical(url)[len(_canonical(prefix)) :]

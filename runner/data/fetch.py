"""Place → a path on this machine, through the cache: nothing unchanged is downloaded twice, nothing half is given."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.data.cache import Shelf, plain_relative
from runner.data.download import PATIENCE, Patience, download
from runner.data.place import identity
from runner.data.source import Entry, NotAFileError, lasting
from runner.errors import BackendError, CapabilityError, NotFoundError, UnavailableError
from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.data.azure import Blobs
    from runner.data.cache import Kept
    from runner.data.others import Bucket
    from runner.data.place import Place
    from runner.data.source import Source, Tree

_AT_ONCE = 8


def fetch(
    place: Place,
    cache: Path,
    say: Callable[[str], None],
    *,
    folder: bool | None = None,
    pattern: str | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Have the data here.

    Args:
        place: from `resolve`. A local one is given back as it is, and looked at only.
        cache: the folder of all downloads, made if need be.
        say: gets a line when something moves.
        folder: whether a folder is wanted or a file; None: what is there.
        pattern: of a remote folder only what `matches` it.

    Returns:
        The file or folder, read-only if it was downloaded. Other content never comes to stand there.

    Raises:
        NotFoundError: nothing there. BackendError: not to be had, with the way to sign in. CapabilityError: an extra of
        runner is not installed. UnavailableError: it cannot be reached, after several tries. OSError: the disk.
    """
    if place.path is not None:
        return _local(place, place.path, folder=folder)
    same = identity(place.url) if place.url.startswith("http") else identity(place.url).rstrip("/")
    shelf = Shelf(cache, same + (f"\n{pattern}" if pattern else ""))
    with shelf.alone(lambda: say(f"{place}: waiting for another runner that is having it")):
        if folder is not True and not urlsplit(place.url).path.endswith("/"):
            try:
                return _either(place, shelf, say, patience)
            except NotAFileError:
                if folder is False:
                    raise NotFoundError(f"{place} is a folder, and a file is wanted", "type: uri_folder") from None
        with lasting(str(place)):
            listed = _listing(place).listing()
        if pattern is not None:
            listed = {name: entry for name, entry in listed.items() if matches(name, pattern)}
        if not listed:
            raise NotFoundError(f"{place} is not there, or empty", "check the address")
        return _tree(place, listed, shelf, say, patience)


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern of an MLTable means a relative path: `*`, `?`, `[…]` within one part, `**` any number of parts."""
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    wanted = [part for before, part in zip(["", *parts], parts, strict=False) if part != "**" or before != "**"]
    at = _over({0}, wanted)  # positions rather than trials: a pattern of many `**` must not take for ever
    for part in path.split("/"):
        stay = {here for here in at if wanted[here : here + 1] == ["**"]}
        next_ = {here + 1 for here in at if here < len(wanted) and fnmatchcase(part, wanted[here])}
        at = _over(stay | next_, wanted)
    return len(wanted) in at


def _over(at: set[int], wanted: list[str]) -> set[int]:
    """These positions, and those behind a `**` at them, which may stand for nothing."""
    return at | {here + 1 for here in at if wanted[here : here + 1] == ["**"]}


def _local(place: Place, path: Path, *, folder: bool | None) -> Path:
    if not path.exists():
        tried = f"looked for {path}" if str(path) != place.uri else f"looked in {path.parent}"
        raise NotFoundError(f"{place.uri} is not there", tried)
    if folder is not None and path.is_dir() is not folder:
        found, wanted, kind = ("a file", "a folder", "uri_file") if folder else ("a folder", "a file", "uri_folder")
        raise NotFoundError(f"{place} is {found}, and {wanted} is wanted", f"type: {kind}")
    return path


def _either(place: Place, shelf: Shelf, say: Callable[[str], None], patience: Patience) -> Path:
    """The file; one of Azure's storage that https gives nobody, with the user's own sign-in."""
    try:
        return _file(place, _source(place), shelf, say, patience)
    except (NotFoundError, BackendError) as error:
        from runner.data import azure

        if not azure.known_host(place.url) or not place.url.startswith("http") or isinstance(error, UnavailableError):
            raise
        try:
            blob = azure.Blobs(place.url).file()
        except CapabilityError as missing:
            raise type(error)(error.message, *error.hints, f"to sign in: {missing.hints[0]}") from None
        return _file(place, blob, shelf, say, patience)


def _source(place: Place) -> Source:
    scheme = urlsplit(place.url).scheme.lower()
    if scheme in {"http", "https"}:
        from runner.data.http import HttpFile

        return HttpFile(place.url)
    return _remote(place, scheme).file()


def _listing(place: Place) -> Tree:
    from runner.data import azure

    scheme = urlsplit(place.url).scheme.lower()
    if scheme in {"http", "https"} and not azure.known_host(place.url):
        raise BackendError(
            f"{place} is to be a folder, and http has none that can be listed",
            "name its files one by one (uri_file), or a place that has folders: abfss://…, wasbs://…, s3://…, gs://…",
            f'or map it to a local copy: runner.yaml: urls: {{"{place.uri}": ./data}}',
        )
    return _remote(place, scheme)


def _remote(place: Place, scheme: str) -> Bucket | Blobs:
    if scheme == "adl":
        raise BackendError(
            f"{place}: Azure Data Lake Storage Gen1 has been shut down by Microsoft",
            f'map it to where the data is now: runner.yaml: urls: {{"{place.uri}": "abfss://…"}}',
        )
    if scheme in {"s3", "gs"}:
        from runner.data.others import Bucket

        return Bucket.open(place.url)
    from runner.data.azure import Blobs

    return Blobs(place.url)


def _file(place: Place, source: Source, shelf: Shelf, say: Callable[[str], None], patience: Patience) -> Path:
    known = shelf.known().get("")
    aside = shelf.aside("")
    got = download(
        source, aside, known.validator or None if known else None, shown=str(place), say=say, patience=patience
    )
    if got is not None:
        known = shelf.keep(aside, got.validator)
        shelf.write({"": known})
        say(f"{place}  {human_size(known.size)}")
    if known is None:
        raise BackendError(f"{place}: the server says that it is unchanged, though it was never here")
    return shelf.file(known, place.name)


def _tree(
    place: Place, listed: Mapping[str, Entry], shelf: Shelf, say: Callable[[str], None], patience: Patience
) -> Path:
    from concurrent.futures import ThreadPoolExecutor

    if strange := next((name for name in listed if not plain_relative(name)), None):
        raise BackendError(f"{place} holds {strange!r}, which cannot be a file's name here")
    known = shelf.known()
    here = {name: known[name] for name, entry in listed.items() if _unchanged(known.get(name), entry)}
    changed = [name for name in listed if name not in here]
    if changed:
        size = sum(listed[name].size or 0 for name in changed)
        say(f"{place}  {len(changed)} of {len(listed)} files, {human_size(size)}")

    def one(name: str) -> None:
        aside = shelf.aside(name)
        got = download(listed[name].source, aside, None, shown=f"{place}: {name}", say=say, patience=patience)
        if got is not None:
            here[name] = shelf.keep(aside, listed[name].validator)  # a listing may say it otherwise than the file does

    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        list(pool.map(one, changed))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        shelf.write(here)  # what came stays had, though another file did not come
    return shelf.tree(here, place.name)


def _unchanged(known: Kept | None, entry: Entry) -> bool:
    return known is not None and known.validator == entry.validator != "" and entry.size in {None, known.size}

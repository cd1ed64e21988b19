"""YAML files with positions: every value's line is known, so that each error can name file, line and key.

Safe by construction: nothing but plain data is built, and size, depth and alias expansion are bounded. What YAML
would guess wrongly stays readable: `text()` is what the user wrote (`1.10`, `no`), `data` is YAML's reading of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.spec.yamlnodes import quick

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import yaml

KeyPath = tuple["str | int", ...]

MAX_BYTES = 1 << 20
"""A hand-written file is far below; a data file given by mistake is above."""
MAX_NODES = 100_000
"""After alias expansion: nine lines of aliases can stand for a billion values."""
_REPEATED = 20
"""So many values may come by aliases and merges for each mapping or list that is written, beyond the first MAX_NODES: the
steps of a pipeline may share what they have in common, and a small file cannot stand for a large one."""
LARGE_BYTES = 16 << 20
LARGE_NODES = 2_000_000
"""Of files that programs write too: a pipeline of 10,000 steps has 2 MB and 300,000 values."""
MAX_DEPTH = 50

_TEXT_TAG = "tag:yaml.org,2002:str"
_DAY_TAG = "tag:yaml.org,2002:timestamp"
_MERGE_TAG = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "timestamp", "map", "seq")
)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document whose top is a mapping.

    `lines` and `texts` are keyed by the path of keys and indexes: `("r", "cran", 0)`. Lines count from 1; the line of a
    mapping's member is its key's.
    """

    file: str
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]
    texts: Mapping[KeyPath, str]

    def line(self, path: KeyPath) -> int | None:
        """The line of this value, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def text(self, path: KeyPath) -> str:
        """A scalar as the user wrote it, without quotes; "" for a mapping or list."""
        return self.texts.get(path, "")

    def error(self, path: KeyPath, message: str, *hints: str) -> SpecError:
        """A SpecError that names file, line and key (list indexes are left out: the line says which)."""
        return SpecError(message, *hints, file=self.file, line=self.line(path), key=dotted(path))


def dotted(path: KeyPath) -> str | None:
    """`("r", "cran", 0)` → `r.cran`; None at the top."""
    return ".".join(part for part in path if isinstance(part, str)) or None


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that the user most likely meant, or None."""
    known = {candidate.lower(): candidate for candidate in words}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7)
    return known[close[0]] if close else None


def read(path: Path, *, shown: str | None = None, large: bool = False) -> Document:
    """Read one file. `shown` is how errors call it (default: the path as given).

    Args:
        large: whether it may be one that a program wrote (LARGE_BYTES, LARGE_NODES).

    Raises:
        SpecError: not there, not readable, not UTF-8, not YAML, or not a mapping at the top.
    """
    file = shown or str(path)
    raw = read_bytes(path, shown=file, limit=LARGE_BYTES if large else MAX_BYTES)
    return parse(decode(raw, file), file, nodes=LARGE_NODES if large else MAX_NODES)


def scalar(text: str) -> Any:
    """What YAML makes of a plain text: `0.1` → 0.1, `true` → True, `a: b` → itself."""
    import yaml

    loader: Any = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    try:
        return loader.construct_object(yaml.ScalarNode(tag, text)) if tag in _PLAIN_TAGS and text else text
    except (ValueError, yaml.YAMLError):
        return text


def read_bytes(path: Path, *, shown: str, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file that the user names in a spec.

    Raises:
        SpecError: it cannot be read or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except FileNotFoundError:
        raise SpecError("no such file", file=shown) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=shown) from None
    if len(raw) > limit:
        raise SpecError(f"larger than {limit >> 20} MiB; is this the right file?", file=shown)
    return raw


def decode(raw: bytes, file: str) -> str:
    """UTF-8 with or without a byte order mark.

    Raises:
        SpecError: other bytes, with the line of the first.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError("not UTF-8 text", "save the file as UTF-8", file=file, line=line) from None


def parse(text: str, file: str, *, nodes: int = MAX_NODES) -> Document:
    """Parse one document of at most so many values.

    Raises:
        SpecError: as `read`.
    """
    import yaml

    try:
        root = _compose(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise SpecError(f"character U+{code:04X} is not allowed in YAML", file=file, line=line) from None
    except UnicodeEncodeError:
        raise SpecError("not UTF-8 text", "save the file as UTF-8", file=file) from None
    except RecursionError:
        raise SpecError(f"nested deeper than {MAX_DEPTH} levels", file=file) from None
    if root is None:
        raise SpecError("the file is empty; expected `key: value` lines", file=file)
    if not isinstance(root, yaml.MappingNode):
        found = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        message = f"expected `key: value` lines at the top, found {found}"
        raise SpecError(message, file=file, line=root.start_mark.line + 1)
    builder = _Builder(file, nodes)
    data = builder.mapping(root, ())
    return Document(file, data, builder.lines, builder.texts)


def _compose(text: str) -> yaml.Node | None:
    """The node tree. libyaml's parser is ten times as quick, so it is asked first; where it finds something wrong, the pure
    one says what, in words that do not depend on which of them is installed."""
    import yaml

    if yaml.__with_libyaml__:
        try:
            return quick(text)
        except (yaml.YAMLError, ValueError):  # ValueError: a lone surrogate, which C cannot be given
            if len(text) > MAX_BYTES:  # which would take a minute
                raise
    loader = yaml.SafeLoader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax_error(error: yaml.MarkedYAMLError, file: str) -> SpecError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = error.problem or error.context or "not valid YAML"
    if "<stream end>" in problem and error.context_mark:
        opened = error.context_mark.line + 1
        return SpecError("what is opened here is not closed before the end of the file", file=file, line=opened)
    if "'\\t'" in problem:
        return SpecError("a tab is used for indentation", "YAML wants spaces there", file=file, line=line)
    if "expected a single document" in (error.context or ""):
        return SpecError("a second document starts here; one is expected", file=file, line=line)
    hints: tuple[str, ...] = ()
    if "mapping values are not allowed" in problem:
        hints = ("text that holds `: ` must be in quotes, and keys of one mapping start in the same column",)
    elif "%" in problem or "@" in problem or "`" in problem:
        hints = ("text that starts with this character must be in quotes",)
    return SpecError(f"not valid YAML: {problem}", *hints, file=file, line=line)


class _Builder:
    """Plain data out of the node tree, with the line and text of every value."""

    def __init__(self, file: str, limit: int) -> None:
        import yaml

        self.file = file
        self._limit = limit
        self._loader = yaml.SafeLoader("")
        self.lines: dict[KeyPath, int] = {}
        self.texts: dict[KeyPath, str] = {}
        self._open: set[int] = set()
        self._seen: set[int] = set()
        """The mappings and lists that were read once; what is read again came by an alias."""
        self._count = 0
        self._again = 0

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        self._enter(node, path)
        data: dict[str, Any] = {}
        for key, value, merged in self._members(node, path):
            if merged and key in data:
                continue
            data[key] = self._value(value, (*path, key))
        self._open.discard(id(node))
        return data

    def _members(self, node: yaml.MappingNode, path: KeyPath) -> list[tuple[str, yaml.Node, bool]]:
        """(key, value, came by `<<`): the mapping's own members first, as they win over merged ones."""
        own: list[tuple[str, yaml.Node, bool]] = []
        merged: list[tuple[str, yaml.Node, bool]] = []
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE_TAG:
                merged += self._merged(value, path)
                continue
            key = self._key(key_node, path)
            if key in seen:
                twice = f"the key is given twice (first in line {seen[key]})"
                raise SpecError(twice, file=self.file, line=line, key=dotted((*path, key)))
            seen[key] = line
            self.lines[(*path, key)] = line
            own.append((key, value, False))
        for key, value, _ in merged:
            self.lines.setdefault((*path, key), value.start_mark.line + 1)
        return own + merged

    def _merged(self, node: yaml.Node, path: KeyPath) -> list[tuple[str, yaml.Node, bool]]:
        import yaml

        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        members: list[tuple[str, yaml.Node, bool]] = []
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise self._error(node, path, "`<<` must name a mapping")
            self._enter(source, path)
            found = self._members(source, path)
            self._repeat(source, path, len(found))
            members += [(key, value, True) for key, value, _ in found]
            self._open.discard(id(source))
        return members

    def _key(self, node: yaml.Node, path: KeyPath) -> str:
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, path, "a key must be a plain word, not a list or mapping")
        return str(node.value)

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        import yaml

        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._enter(node, path)
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index)))
            self._open.discard(id(node))
            return items
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        import yaml

        self._bound(node, path)
        self.texts[path] = node.value
        if node.tag == _TEXT_TAG and "\0" not in node.value:
            return node.value
        if "\0" in node.value:  # written as an escape; no path, command or variable can hold it
            raise self._error(node, path, "character U+0000 is not allowed")
        try:
            return self._loader.construct_object(node)
        except (ValueError, yaml.YAMLError):
            hints = ("YAML takes it for a day, and there is none such: YYYY-MM-DD",) if node.tag == _DAY_TAG else ()
            raise self._error(node, path, f"{node.value!r} is not a valid value of its kind", *hints) from None

    def _enter(self, node: yaml.CollectionNode, path: KeyPath) -> None:
        self._bound(node, path)
        if id(node) in self._open:
            raise self._error(node, path, "an alias refers to what it stands in")
        if len(self._open) > 2 * MAX_DEPTH:  # merges of merges: the path says nothing of these
            raise self._error(node, path, f"nested deeper than {MAX_DEPTH} levels")
        if id(node) in self._seen:
            self._repeat(node, path, 1 + len(node.value))
        self._seen.add(id(node))
        self._open.add(id(node))

    def _repeat(self, node: yaml.Node, path: KeyPath, values: int) -> None:
        self._again += values
        allowed = MAX_NODES + _REPEATED * len(self._seen)
        if self._again > allowed:
            raise self._error(node, path, f"more than {allowed} values once its aliases are expanded")

    def _bound(self, node: yaml.Node, path: KeyPath) -> None:
        self._count += 1
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.removeprefix("tag:yaml.org,2002:")
            raise self._error(node, path, f"the tag {tag!r} is not allowed here")
        if self._count > self._limit:
            raise self._error(node, path, f"more than {self._limit} values once its aliases are expanded")
        if len(path) > MAX_DEPTH:
            raise self._error(node, path, f"nested deeper than {MAX_DEPTH} levels")

    def _error(self, node: yaml.Node, path: KeyPath, message: str, *hints: str) -> SpecError:
        return SpecError(message, *hints, file=self.file, line=node.start_mark.line + 1, key=dotted(path))

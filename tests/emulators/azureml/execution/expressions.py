"""`${{…}}` and `$[[…]]` in a command, replaced by text as the service does it: no quoting, nothing else touched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_EXPRESSION = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def replace(text: str, values: Mapping[str, str | None]) -> str:
    """values: by the whole expression, `inputs.x`; None: an optional input that is absent, which drops its `$[[…]]`.

    KeyError: an expression that is not among the values, or an absent input outside of `$[[…]]`.
    """

    def optional(found: re.Match[str]) -> str:
        names = expressions(found[1])
        return "" if any(values[name] is None for name in names) else found[1]

    def one(found: re.Match[str]) -> str:
        value = values[found[1]]
        if value is None:
            raise KeyError(found[1])
        return value

    return _EXPRESSION.sub(one, _OPTIONAL.sub(optional, text))


def expressions(text: str) -> list[str]:
    """What stands in `${{ }}`, in order."""
    return [found[1] for found in _EXPRESSION.finditer(text)]


def whole(text: object) -> str | None:
    """The expression if the text is nothing but one, as in a binding."""
    found = _EXPRESSION.fullmatch(text.strip()) if isinstance(text, str) else None
    return found[1] if found else None


def replace_known(text: str, find: Callable[[str], str | None]) -> str:
    """Replace what `find` knows, leave the rest as it stands (output paths: `${{name}}`, `${{output_name}}`)."""
    return _EXPRESSION.sub(lambda found: found[0] if (value := find(found[1])) is None else value, text)

"""The certificates in a CA bundle, and nothing else of the file: a checkout may name any file of this machine as one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END (?:TRUSTED )?CERTIFICATE-----")
_LIMIT = 16 << 20


def certificates(bundle: Path) -> bytes:
    """The PEM blocks of certificates in a file; b"" where it has none or cannot be read."""
    try:
        with bundle.open("rb") as stream:
            raw = stream.read(_LIMIT)
    except OSError:
        return b""
    return b"".join(block + b"\n" for block in _BLOCK.findall(raw))

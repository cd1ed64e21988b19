"""Names that people can say: `brave-otter-7f3k`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ADJECTIVES = (
    "able amber ample apt avid bold brave brief bright brisk calm clear clever cosy crisp deft eager early easy fair "
    "fast fine firm fleet fond frank fresh full gentle glad golden good grand green happy hardy keen kind large light "
    "lively lucky mellow merry mild neat new nimble noble plain polite prime proud quick quiet rapid ready rich royal "
    "safe sharp silver smart smooth snug soft solid sound steady still strong sturdy sunny sure sweet swift tall tidy "
    "true upbeat vivid warm wise witty young"
)
_NOUNS = (
    "ant badger bass bear beaver bee bison boar carp cat clam cod colt coot crab crane crow deer dingo dove duck eagle "
    "eel egret elk emu falcon ferret finch fox frog gecko goat goose grouse gull hare hawk heron horse ibex ibis jay "
    "koala kiwi lark lemur lion llama lynx mink mole moose moth mouse mule newt orca oryx otter owl panda perch pike "
    "plover pony puma quail raven robin salmon seal shrew shrike skink snipe sparrow squid stoat stork swan tapir tern "
    "thrush tiger toad trout tuna turtle viper vole walrus wasp whale wolf wombat wren yak zebra"
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"


def fresh_name() -> str:
    """A random name: 80 x 80 pairs of words and four letters, about 5e9 of them."""
    tail = "".join(_choice(_LETTERS) for _ in range(4))
    return f"{_choice(_ADJECTIVES.split())}-{_choice(_NOUNS.split())}-{tail}"


def file_name(text: str, limit: int = 200) -> str:
    """The text as it is where it can be the name of a file and of a container; else what is left of it, and a hash.

    Different texts give different names, each of at most `limit` bytes.
    """
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    from hashlib import sha256

    kept = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[: limit - 17].lstrip("._-")
    return f"{kept or 'x'}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _choice(of: Sequence[str]) -> str:
    """One of them, from the kernel's randomness; the module `secrets` does the same and costs 13 ms to import."""
    return of[int.from_bytes(os.urandom(8), "big") % len(of)]

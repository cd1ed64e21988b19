"""Compile Python sources to bytecode, in as many processes as there are cores. Run by the Python that they are for; Python
3.8, standard library only.

bytecode.py INVALIDATION (timestamp, unchecked-hash) <sources, one path a line

Tests of libraries are left out: nobody imports them in an image, and they are two fifths of the time that compiling takes
and half of the bytes. Who does import them has them compiled then.
"""  # noqa: INP001 - never imported: it runs inside a build container

from __future__ import annotations

import os
import py_compile
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTS = ("/tests/", "/test/")


def compile_all(paths: Sequence[str], mode: py_compile.PycInvalidationMode) -> None:
    """Compile files. One for another Python does not compile; whether its package works is found out by importing it."""
    dated = os.environ.get("SOURCE_DATE_EPOCH")
    warnings.simplefilter("ignore")
    for path in paths:
        try:
            if dated and mode is py_compile.PycInvalidationMode.TIMESTAMP:
                # The time is in the bytecode: with this one each build has the same bytes.
                os.utime(path, (int(dated), int(dated)))
            py_compile.compile(path, doraise=True, invalidation_mode=mode)
        except (py_compile.PyCompileError, OSError, ValueError, RecursionError, MemoryError):
            continue


def main() -> None:
    """See the module."""
    mode = py_compile.PycInvalidationMode[sys.argv[1].replace("-", "_").upper()]
    found = (line for line in sys.stdin.read().split("\n") if line.endswith(".py"))
    paths = [path for path in found if not any(part in path for part in TESTS)]
    # The largest first, dealt out in turn: each process gets as much to do.
    paths.sort(key=os.path.getsize, reverse=True)
    cores = len(os.sched_getaffinity(0))
    children = []
    for index in range(cores):
        child = os.fork()
        if child == 0:
            # Whatever happens, a child ends here: bytecode that is missing costs time and breaks nothing.
            try:
                compile_all(paths[index::cores], mode)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


main()

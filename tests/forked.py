"""The command without the cost of its start: forked from a process that has imported what the command imports.

    python tests/forked.py FD [azureml]

Started over and over, the interpreter and its imports are most of what a test of the command costs: 0.15 s of processor time
for a `list`, 2 s for a `submit` to Azure ML. What the command does is the same: `main` in a process of its own, with its
arguments, environment, folder and streams, to the interpreter's own end. Suites in which the start itself matters
(tests/e2e, terminals, signals) start it as users do.
"""

from __future__ import annotations

import gc
import inspect
import json
import os
import select
import socket
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


_USED = (
    "docker", "runner.backends.docker", "runner.backends.process", "runner.environments", "runner.logs", "runner.spec.job",
    "runner.steplogs", "runner.submission.accepting", "runner.supervisor",
)  # fmt: skip
_USED_THERE = (
    "azure.core.rest._requests_basic", "azure.identity", "azure.storage.blob", "runner.backends.azureml.assets",
    "runner.backends.azureml.backend", "runner.backends.azureml.checks", "runner.backends.azureml.workspace",
)  # fmt: skip


def preload(*, there: bool) -> None:
    """Import what commands import; there: with what those on Azure ML do."""
    from runner.cli.command import application

    application()
    for module in _USED + (_USED_THERE if there else ()):
        import_module(module)
    if there:
        from runner.backends.azureml import sdk

        sdk.load({"type": "command", "command": "true", "environment": {"image": "none"}})
        # The SDK looks at its callers before it warns of what is experimental; the first look reads where every module is
        # (0.36 s), and inspect remembers that.
        inspect.stack()
    gc.collect()
    gc.freeze()  # a child that looked for garbage in what it shares would copy it


def serve(asked: socket.socket) -> None:
    """Fork a child for each request, and tell how it ended. Returns in the child alone; ends with who asks.

    A request is a byte with five descriptors: of a file with {"argv", "cwd", "env"}, of the three streams, and of a pipe
    that takes the child's id and, at its end, its exit code, a line each.
    """
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([asked.fileno(), *running], [], [])[0]:
            if ready in running:
                child, told = running.pop(ready)
                os.write(told, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                os.close(ready)
                os.close(told)
                continue
            _, given, _, _ = socket.recv_fds(asked, 1, 5)
            if not given:
                os._exit(0)
            file, *streams, told = given
            if not (child := os.fork()):
                asked.close()
                for pidfd, (_, other) in running.items():
                    os.close(pidfd)
                    os.close(other)
                os.close(told)
                _become(file, streams)
                return
            for each in (file, *streams):
                os.close(each)
            os.write(told, b"%d\n" % child)
            running[os.pidfd_open(child)] = (child, told)


def _become(file: int, streams: list[int]) -> None:
    """Take the arguments, environment, folder and streams of the command."""
    with open(file, "rb") as request:
        given = json.load(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(given["cwd"])
    os.environ.clear()
    os.environ.update(given["env"])
    sys.argv = [str(ROOT / "runner" / "__main__.py"), *given["argv"]]
    sys.path[0] = given["cwd"]  # as `python -m` has it


def main() -> None:
    """Serve; in each child, be the command."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    preload(there="azureml" in sys.argv[2:])
    serve(asked)
    from runner.cli import main as command

    command()


if __name__ == "__main__":
    main()

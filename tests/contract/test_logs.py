"""What the script prints arrives byte for byte, however much and whatever it is."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import eventually
from tests.contract.helpers import supervisors

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Api, Gate

_MIB = 1 << 20


def test_a_hundred_megabytes_arrive_unchanged_in_bounded_memory(
    cli: Cli, api: Api, can: Capabilities, script: Callable[[str, str], Path], gate: Gate
) -> None:
    text = (
        "import hashlib, sys\n"
        "block = b''.join(b'%07d %s\\n' % (n, b'x' * (n % 200)) for n in range(9000))\n"
        "block += b'y' * ((1 << 20) - len(block) - 1) + b'\\n'\n"
        "digest = hashlib.sha256()\n"
        "for n in range(100):\n"
        "    data = b'%03d' % n + block[3:]\n"
        "    digest.update(data)\n"
        "    sys.stdout.buffer.write(data)\n"
        "sys.stdout.flush()\n"
        "open('outputs/sha', 'w').write(digest.hexdigest())\n" + gate.text
    )
    name = api.submit(script("big.py", text), inputs=gate.inputs)
    log = api.attempt(name) / "log"
    eventually(lambda: bool(supervisors(api.home, name)), "the run has a supervisor")
    (pid,) = supervisors(api.home, name)
    peaks = []

    def all_here() -> bool:
        peaks.append(_kib(pid, "VmHWM"))
        return log.exists() and log.stat().st_size == 100 * _MIB

    eventually(all_here, "all of the log is here")
    gate.open()
    # What a client of a service elsewhere imports is there in the process that submits, too.
    imported = _kib(api.worker.pid, "VmRSS") if can.remote else 0
    assert 0 < max(peaks) < imported + 80 * 1024, f"the supervisor used {max(peaks)} KiB"
    assert api.ended(name)["reason"] == "Completed"
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(cli.argv("logs", name), env=cli.env, stdout=subprocess.PIPE) as shown:
        assert shown.stdout is not None
        while block := shown.stdout.read(_MIB):
            digest.update(block)
            size += len(block)
    assert size == 100 * _MIB
    assert digest.hexdigest() == (api.artifacts(name) / "outputs" / "sha").read_text()
    assert len(cli("logs", name, "--tail", "3").out_bytes.splitlines()) == 3


def _kib(pid: int, what: str) -> int:
    """Memory of a process, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(what)), 0)


def test_bytes_that_are_no_text_arrive_unchanged(cli: Cli, api: Api, script: Callable[[str, str], Path]) -> None:
    text = (
        "import os\n"
        "os.write(1, bytes(range(256)) * 3)\n"
        "os.write(1, b'\\xff\\xfe\\x00\\x00\\xc3\\x28 caf\\xe9\\n')\n"
        "for n in range(0, 101, 10): os.write(1, b'\\r%d %%' % n)\n"
        "os.write(1, b'\\n')\n"
        "os.write(1, b'z' * 70000 + b'\\n')\n"
        "os.write(1, 'ü→\\U0001f600\\u2028\\n'.encode())\n"
        "os.write(1, b'no newline at the end')\n"
    )
    wanted = bytes(range(256)) * 3 + b"\xff\xfe\x00\x00\xc3\x28 caf\xe9\n"
    wanted += b"".join(b"\r%d %%" % n for n in range(0, 101, 10)) + b"\n" + b"z" * 70000 + b"\n"
    wanted += "ü→\U0001f600\u2028\n".encode() + b"no newline at the end"
    row = api.run(script("odd.py", text))
    assert row["reason"] == "Completed"
    assert cli("logs", row["name"]).out_bytes == wanted
    shown = cli("show", row["name"])
    assert shown.code == 0, shown.err


def test_every_split_of_a_character_arrives_unchanged(api: Api, script: Callable[[str, str], Path]) -> None:
    """Lines that end in the middle of a character, at the sizes at which engines cut them."""
    text = (
        "import os\n"
        "for size in (4095, 16383, 16384, 32767, 65535):\n"
        "    data = 'a' * (size - 1) + '\\u20ac'\n"
        "    os.write(1, data.encode() + b'\\n')\n"
    )
    row = api.run(script("split.py", text))
    wanted = "".join("a" * (size - 1) + "\u20ac\n" for size in (4095, 16383, 16384, 32767, 65535))
    assert api.log(row["name"]) == wanted.encode()


def test_stdout_and_stderr_both_arrive_each_in_its_order(api: Api, script: Callable[[str, str], Path]) -> None:
    text = "import os\nfor n in range(200):\n    os.write(1 + n % 2, b'%d\\n' % n)\n"
    row = api.run(script("both.py", text))
    numbers = [int(line) for line in api.log(row["name"]).splitlines()]
    assert [n for n in numbers if n % 2 == 0] == list(range(0, 200, 2))
    assert [n for n in numbers if n % 2] == list(range(1, 200, 2))


def test_the_log_is_there_while_the_script_runs(
    cli: Cli, api: Api, script: Callable[[str, str], Path], gate: Gate
) -> None:
    text = f"print('one')\n{gate.text}print('two')\n"
    name = api.submit(script("two.py", text), inputs=gate.inputs)
    follower = cli.start("logs", name, "--follow")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"one\n"  # unbuffered, though stdout is no terminal
    assert cli("logs", name).out == "one\n"
    gate.open()
    out, err = follower.communicate(timeout=60)
    assert (out, err, follower.returncode) == (b"two\n", b"", 0)


def test_a_script_that_prints_nothing_has_an_empty_log(cli: Cli, api: Api, script: Callable[[str, str], Path]) -> None:
    row = api.run(script("quiet.sh", ":\n"))
    done = cli("logs", row["name"])
    assert (done.code, done.out_bytes) == (0, b"")


def test_a_script_that_opens_its_streams_by_name_loses_nothing(api: Api, script: Callable[[str, str], Path]) -> None:
    """`> /dev/stderr` would truncate the log if that were a file; and lines of both streams keep their order."""
    text = "echo 1\necho 2 > /dev/stderr\necho 3 > /dev/stdout\necho 4 >&2\necho 5\n"
    name = api.submit(script("a.sh", text))
    assert api.ended(name)["reason"] == "Completed"
    assert api.log(name) == b"1\n2\n3\n4\n5\n"

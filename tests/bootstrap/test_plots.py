"""Plots that R and matplotlib would show become numbered PNGs; nothing else about the scripts changes."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bootstrap.conftest import Run

needs_r = pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not on this machine")
HAS_MATPLOTLIB = (
    subprocess.run([sys.executable, "-c", "import matplotlib"], capture_output=True, check=False).returncode == 0
)
needs_matplotlib = pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not in this environment")


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """matplotlib's own cache: its first run looks at all fonts, which takes seconds."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture
def env(tmp_path: Path, fonts: Path) -> dict[str, str]:
    """A home without profiles, and the Python that has matplotlib first."""
    home = tmp_path / "home"
    home.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"MPLCONFIGDIR": str(fonts), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": path, "HOME": str(home), **settings}


def plots(work: Path) -> dict[str, tuple[int, int]]:
    """Name → (width, height), read from the files' own headers."""
    found = {}
    for path in sorted((work / "outputs" / "plots").glob("*")):
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n", path
        found[path.name] = struct.unpack(">II", head[16:24])
    return found


@needs_r
def test_r_plots_are_numbered(run: Run, mode: str, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text(
        "par(mfrow = c(1, 2)); plot(1:3); hist(c(1, 2, 2)); plot(cars)\n"  # two pages: the first holds two plots
        "invisible(dev.off()); barplot(1:4)\n"  # a second device goes on counting
        "library(grid); grid.newpage(); grid.circle()\n"
    )
    result = run("x.R", env=env, mode=mode)
    assert result.row() == ("Completed", "Completed", 0, None, 0)
    assert plots(work) == {f"plot-00{n}.png": (1440, 900) for n in range(1, 5)}
    assert not (work / "Rplots.pdf").exists()
    assert result.stderr == b""


@needs_r
def test_r_without_plots_makes_no_folder(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text("cat(1 + 1, '\\n'); print(ls(all.names = TRUE))\n")
    assert run("x.R", env=env).stdout == b"2 \ncharacter(0)\n"
    assert [path.name for path in work.iterdir()] == ["x.R"]


@needs_r
def test_r_empty_pages_are_not_kept(run: Run, work: Path, env: dict[str, str]) -> None:
    """Converting a unit opens a device and a page; so does asking for a parameter."""
    (work / "x.R").write_text(
        "library(grid); invisible(convertX(unit(1, 'npc'), 'inches')); dev.off()\n"
        "op <- par(no.readonly = TRUE); dev.off(); dev.new(width = 5, height = 4); plot(1)\n"
    )
    assert run("x.R", env=env).record["reason"] == "Completed"
    assert plots(work) == {"plot-001.png": (720, 576)}


@needs_r
def test_r_own_devices_are_left_alone(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text("png('mine.png'); plot(1); dev.off(); pdf('mine.pdf'); plot(1); dev.off()\n")
    assert run("x.R", env=env).record["reason"] == "Completed"
    assert sorted(path.name for path in work.iterdir()) == ["mine.pdf", "mine.png", "x.R"]


@needs_r
def test_r_plots_before_an_error_arrive_and_the_code_stays_1(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text("plot(1)\nf <- function(x) g(x)\ng <- function(x) stop('oh no')\nf(1)\ncat('never')\n")
    result = run("x.R", env=env)
    assert result.row() == ("Failed", "NonZeroExit", 1, None, 1)
    text = result.stderr.decode()
    assert "oh no" in text
    assert re.search(r"Traceback.*\n  1: f\(1\)\n  2: g\(x\)\n", text)
    assert list(plots(work)) == ["plot-001.png"]
    assert result.stdout == b""


@needs_r
def test_r_errors_that_are_caught_say_nothing(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text("tryCatch(stop('x'), error = function(e) cat('caught\\n')); quit(status = 7)\n")
    result = run("x.R", env=env)
    assert (result.stdout, result.stderr) == (b"caught\n", b"")
    assert result.record["exit_code"] == 7


@needs_r
def test_r_profiles_run_as_without_us(run: Run, work: Path, env: dict[str, str], tmp_path: Path) -> None:
    say = "cat('{0}', Sys.getenv('R_PROFILE_USER', '-'), Sys.getenv('RUNNER_R_PROFILE_USER', '-'), '\\n'); {0} <- 1\n"
    (work / "x.R").write_text("cat(ls(), '\\n'); system2('Rscript', c('-e', shQuote('cat(ls())')))\n")
    (Path(env["HOME"]) / ".Rprofile").write_text(say.format("home"))
    assert run("x.R", env=env).stdout.split() == b"home - - home home - - home".split()
    (work / ".Rprofile").write_text(say.format("project"))
    assert run("x.R", env=env).stdout.split() == b"project - - project project - - project".split()
    own = tmp_path / "own profile.R"
    own.write_text(say.format("own"))
    seen = run("x.R", env={**env, "R_PROFILE_USER": str(own)}).stdout.decode()
    assert seen.split() == f"own {own} - own own {own} - own".split()


@needs_r
def test_r_a_users_own_device_and_handler_win(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / ".Rprofile").write_text(
        "options(device = function(...) grDevices::pdf('mine.pdf'), error = quote(quit(status = 9L)))\n"
    )
    (work / "x.R").write_text("plot(1); stop('x')\n")
    assert run("x.R", env=env).row() == ("Failed", "NonZeroExit", 9, None, 9)
    assert (work / "mine.pdf").exists()
    assert not (work / "outputs").exists()


@needs_r
def test_r_a_broken_profile_ends_as_it_does_without_us(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / ".Rprofile").write_text("stop('broken profile')\n")
    (work / "x.R").write_text("cat('ran\\n')\n")
    direct = subprocess.run(
        ["Rscript", "--no-site-file", "--no-environ", "--no-restore", "x.R"],
        cwd=work,
        env=env,
        capture_output=True,
        check=False,
    )
    result = run("x.R", env=env)
    assert (result.code, result.stdout) == (direct.returncode, direct.stdout)
    assert b"broken profile" in result.stderr


@needs_r
def test_r_numbers_go_on_across_processes(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.sh").write_text("for n in 1 2 3 4; do Rscript -e 'plot(1); plot(2)' & done; wait\n")
    assert run("x.sh", env=env).record["reason"] == "Completed"
    assert list(plots(work)) == [f"plot-00{n}.png" for n in range(1, 9)]


@needs_r
def test_r_without_a_png_device_falls_back_to_pdf(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / ".Rprofile").write_text(
        "local({b <- baseenv(); unlockBinding('capabilities', b)\n"
        "assign('capabilities', function(...) c(cairo = FALSE), b)})\n"
    )
    (work / "x.R").write_text("plot(1); invisible(dev.off()); plot(2)\n")
    result = run("x.R", env=env)
    assert sorted(path.name for path in (work / "outputs" / "plots").iterdir()) == ["plot-001.pdf", "plot-002.pdf"]
    assert result.stderr.decode() == "runner: this R has no PNG device (cairo); plots are saved as PDF\n"


@needs_r
@pytest.mark.parametrize("name", ["a 0", "a'; echo foo", "größe", "-leading"])
def test_r_hostile_script_names(run: Run, work: Path, env: dict[str, str], name: str) -> None:
    (work / f"{name}.R").write_text("cat(commandArgs(TRUE), sep = '\\n'); quit(status = 4)\n")
    result = run(f"{name}.R", "--x=y z", "-e", "$HOME", env=env)
    assert result.stdout.decode().splitlines() == ["--x=y z", "-e", "$HOME"]
    assert result.record["exit_code"] == 4


@needs_r
def test_r_byte_order_mark_and_crlf(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "crlf.R").write_bytes(b"cat('ok')\r\ncat('!')\r\n")
    assert run("crlf.R", env=env).stdout == b"ok!"
    (work / "bom.R").write_bytes(b"\xef\xbb\xbfcat('ok')\n")
    assert run("bom.R", env=env).row() == ("Failed", "NonZeroExit", 1, None, 1)


@needs_r
def test_r_asks_nothing(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.R").write_text("x <- readline('name? '); cat('[', x, ']\\n', sep = '')\n")
    assert run("x.R", env=env).stdout == b"name? \n[]\n"


@needs_matplotlib
def test_matplotlib_show_saves_and_closes(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.py").write_text(
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2]); plt.figure(); plt.plot([2, 1]); plt.show(); print(plt.get_fignums())\n"
        "plt.figure(); plt.show()\n"
        "plt.figure()\n"  # never shown, so nobody would have seen it
    )
    result = run("x.py", env=env)
    assert (result.stdout, result.stderr) == (b"[]\n", b"")
    assert list(plots(work)) == ["plot-001.png", "plot-002.png", "plot-003.png"]
    assert plots(work)["plot-001.png"] == (921, 691)


@needs_matplotlib
def test_matplotlib_shown_again_is_one_plot(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.py").write_text(
        "import matplotlib.pyplot as plt\n"
        "f = plt.figure()\nfor n in range(3): plt.plot([n, 1]); plt.pause(0.01)\n"
        "f.show(); print(plt.get_fignums()); plt.show(block=False); print(plt.get_fignums()); plt.show()\n"
        "print(plt.get_fignums())\n"
    )
    result = run("x.py", env=env)
    assert (result.stdout, result.stderr) == (b"[1]\n[1]\n[]\n", b"")
    assert list(plots(work)) == ["plot-001.png"]


@needs_matplotlib
def test_matplotlib_without_show_and_with_savefig(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.py").write_text("import matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('mine.png')\n")
    assert run("x.py", env=env).record["reason"] == "Completed"
    assert sorted(path.name for path in work.iterdir()) == ["mine.png", "x.py"]


@needs_matplotlib
@needs_r
def test_python_and_r_count_together(run: Run, work: Path, env: dict[str, str]) -> None:
    (work / "x.py").write_text("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()\n")
    (work / "x.sh").write_text("python3 x.py & python3 x.py & wait; Rscript -e 'plot(1)'; python3 x.py\n")
    assert run("x.sh", env=env).record["reason"] == "Completed"
    assert list(plots(work)) == [f"plot-00{n}.png" for n in range(1, 5)]

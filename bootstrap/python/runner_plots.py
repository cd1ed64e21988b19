"""A matplotlib backend without a screen: what `plt.show()` would show is saved as the next numbered PNG.

MPLBACKEND=module://runner_plots chooses it; files go to the folder in RUNNER_PLOTS. A figure that is never shown is not
saved: without a runner nobody would have seen it either. Works with every matplotlib since 3.1.
"""

from __future__ import annotations

import os
import weakref

import matplotlib as mpl
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

MIN_DPI = 144  # a figure's 100 dpi give 640 x 480 pixels, too coarse for a report

_paths: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # figure -> its file, if it was shown before


def _new_path() -> str:
    """Creates the next free `plot-001.png`. The name is taken atomically, so other processes never get the same."""
    folder = os.environ.get("RUNNER_PLOTS") or os.path.join("outputs", "plots")
    os.makedirs(folder, exist_ok=True)
    number = 1
    while True:
        path = os.path.abspath(os.path.join(folder, "plot-%03d.png" % number))
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            number += 1
        else:
            return path


def _save(figure) -> None:
    """A figure shown again (an animation with plt.pause) overwrites its own file: its last state is kept."""
    new = figure not in _paths
    path = _new_path() if new else _paths[figure]
    try:
        figure.savefig(path, dpi=max(figure.dpi, MIN_DPI))
    except BaseException:
        if new:
            os.unlink(path)
        raise
    _paths[figure] = path


class FigureManager(FigureManagerBase):
    """One figure's window, had there been a screen."""

    def show(self) -> None:
        """`figure.show()`: saved, and still open."""
        _save(self.canvas.figure)


class FigureCanvas(FigureCanvasAgg):
    """Agg's canvas; names its manager, as matplotlib 3.6 and later want it."""

    manager_class = FigureManager


def show(*_args: object, block: bool | None = None, **_options: object) -> None:
    """`plt.show()`: saves every open figure, and closes them as the user would unless told not to wait."""
    for manager in Gcf.get_all_fig_managers():
        _save(manager.canvas.figure)
    if block or (block is None and not mpl.is_interactive()):
        Gcf.destroy_all()

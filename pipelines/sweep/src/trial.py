"""How high a bowl (or a cone) stands at x: logged as the metric `height`, and written down."""

import argparse
import os
import time
from pathlib import Path


def log_metric(name: str, value: float) -> None:
    """MLflow where it is there; else one line in its format, into the folder that runner gives each run."""
    try:
        import mlflow
    except ImportError:
        folder = Path(os.environ["RUNNER_TRACKING"], "metrics")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a") as file:
            file.write(f"{time.time_ns() // 1_000_000} {value} 0\n")
    else:
        mlflow.log_metric(name, value)


parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float, required=True)
parser.add_argument("--shape", choices=["bowl", "cone"], required=True)
parser.add_argument("--depth", type=float, required=True)
parser.add_argument("--to", type=Path, required=True)
args = parser.parse_args()

height = (args.x - 1) ** 2 if args.shape == "bowl" else abs(args.x - 1)
log_metric("height", height - args.depth)
args.to.write_text(f"{args.shape} at {args.x:.6f}: {height - args.depth:.6f}\n")

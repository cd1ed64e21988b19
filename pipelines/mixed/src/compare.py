"""Which of two fits has the smaller error: best.csv holds its coefficients, report.json the comparison."""

import argparse
import csv
import json
import shutil
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--line", required=True)
parser.add_argument("--parabola", required=True)
parser.add_argument("--to", type=Path, required=True)
args = parser.parse_args()

files = {"line": args.line, "parabola": args.parabola}
errors = {}
for name, path in files.items():
    with Path(path).open(newline="") as file:
        errors[name] = next(float(row["value"]) for row in csv.DictReader(file) if row["name"] == "rmse")
best = min(errors, key=errors.__getitem__)
shutil.copyfile(files[best], args.to / "best.csv")
(args.to / "report.json").write_text(json.dumps({"best": best, "rmse": errors}, indent=2) + "\n")
print(f"{best} fits best: {errors[best]}")

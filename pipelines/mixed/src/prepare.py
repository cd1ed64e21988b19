"""Made-up measurements of a parabola with noise, as CSV."""

import argparse
import csv
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--points", type=int, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--to", required=True)
args = parser.parse_args()

dice = random.Random(args.seed)
with Path(args.to).open("w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["x", "y"])
    for number in range(args.points):
        x = 10 * number / args.points
        rows.writerow([f"{x:.4f}", f"{0.4 * x * x - 2 * x + 3 + dice.gauss(0, 0.8):.4f}"])
print(f"{args.points} points")

"""A JSON object as a table. python table.py JSON RESULT"""

import json
import sys
from pathlib import Path

from tabulate import tabulate

found = json.loads(Path(sys.argv[1]).read_text())
Path(sys.argv[2]).write_text(tabulate(found.items(), headers=["name", "value"], tablefmt="github") + "\n")

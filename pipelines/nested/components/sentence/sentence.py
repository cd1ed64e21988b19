"""python3 sentence.py LABEL RESULT TEXT"""

import sys
from pathlib import Path

label, result, text = sys.argv[1:]
Path(text).write_text(f"The {label} is {Path(result).read_text().strip()}.\n")

"""The laws, the fuzzing and the comparison read with one small reader."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # reading.py beside this file

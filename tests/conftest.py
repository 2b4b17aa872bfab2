from nucleon import green; green.patch()  # noqa: E702, I001  first of all: `-p nucleon.testing.early` has usually done it already

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))  # one plugin per concern; tests themselves are imported by path

pytest_plugins = ["postgres_fixtures", "redis_fixtures"]

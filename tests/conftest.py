"""What all tests share. `-p nucleon.testing.early` (in pyproject.toml) has patched the standard library before any plugin came."""

import sys
from pathlib import Path

from nucleon import green

green.patch()  # for a run without the options of pyproject.toml
sys.path.insert(0, str(Path(__file__).parent / "fixtures"))  # one plugin per concern; the tests themselves are imported by path

pytest_plugins = ["postgres_fixtures", "redis_fixtures", "rabbitmq_fixtures", "service_fixtures"]

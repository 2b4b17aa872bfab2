"""The application and what it works with. Nothing is opened here: resources connect when they are first used."""

from pathlib import Path

from nucleon import App
from nucleon.postgres import Postgres
from nucleon.redis import Redis

app = App("orders")
db = app.use(Postgres())  # [postgres] in config/*.toml, or DATABASE_URL
cache = app.use(Redis())  # [redis] in config/*.toml, or REDIS_URL

SCHEMA = Path(__file__).with_name("schema.sql").read_text()
SCHEMA_LOCK = 7204  # any number, the same in every worker


@app.on_start
def create_tables() -> None:
    """Create what is missing. Every worker of every machine comes here at once, so they take turns."""
    with db.transaction():
        db.execute("select pg_advisory_xact_lock(%s)", SCHEMA_LOCK)
        db.execute(SCHEMA)

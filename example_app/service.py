"""The application and what it works with. Nothing is opened here: resources connect when they are first used."""

from nucleon import App
from nucleon.postgres import Postgres
from nucleon.redis import Redis

app = App("orders")
db = app.use(Postgres())  # [postgres] in config/*.toml, or DATABASE_URL; its schema is in migrations/
cache = app.use(Redis())  # [redis] in config/*.toml, or REDIS_URL

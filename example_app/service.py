"""The application and what it works with. Nothing is opened here: resources connect when they are first used."""

from nucleon import App
from nucleon.amqp import Amqp
from nucleon.postgres import Postgres
from nucleon.redis import Redis

app = App("orders")
db = app.use(Postgres())  # [postgres] in config/*.toml, or DATABASE_URL; its schema is in migrations/
cache = app.use(Redis())  # [redis] in config/*.toml, or REDIS_URL
broker = app.use(Amqp(), optional=True)  # [amqp], or AMQP_URL; without it orders are taken, and what follows from them waits

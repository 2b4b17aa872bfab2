"""One statement by psycopg2's cursor. This is the interpreted twin of `direct.pyx`, which asks libpq; both give the same results."""

from nucleon.postgres.exchange import execute, prepare

__all__ = ["execute", "prepare"]

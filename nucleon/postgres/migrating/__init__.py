"""Migrations: numbered plain SQL files, each applied whole and once. See docs/migrations.md.

files     a folder becomes a list of migrations    standing   folder and database side by side
session   the migrator's connection and its lock   applying   up, down, reset
starting  may a service start on this schema?
"""

from nucleon.postgres.migrating.applying import MigrationFailed, down, reset, standing, up
from nucleon.postgres.migrating.files import Migration, read, write_new
from nucleon.postgres.migrating.reporting import report
from nucleon.postgres.migrating.session import opened, place_of
from nucleon.postgres.migrating.standing import Applied, Standing, compare
from nucleon.postgres.migrating.starting import be_current, folder_of

__all__ = [
    "Applied", "Migration", "MigrationFailed", "Standing", "be_current", "compare", "down", "folder_of", "opened", "place_of", "read",
    "report", "reset", "standing", "up", "write_new",
]  # fmt: skip

"""`nucleon db check`: would each statement in the code run, and does it give what its model wants? Nothing is executed.

finding     from the source of modules to calls of a `Postgres` with their statements
describing  a statement prepared and described by the server, never run
comparing   its columns beside the fields of the type that it is read as
reporting   all of it, in lines for people
"""

from nucleon.postgres.checking.reporting import Report, check_modules

__all__ = ["Report", "check_modules"]

"""The application's own settings: the section `[app]`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """body_limit_bytes: a larger request body is a 413, unless the route says otherwise; the server's own limit stays in force.

    consume: the workers of `nucleon serve` run the consumers too; false: only those of `nucleon worker` do.
    """

    body_limit_bytes: int = 1_048_576
    consume: bool = True

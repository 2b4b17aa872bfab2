"""Paths to routes: `"/users/{id}"` to `Match`, `WrongMethod` or `NoRoute`. Values, not exceptions."""

from nucleon.routing.pattern import Parameter, Pattern, pattern_from
from nucleon.routing.router import Match, NoRoute, Router, WrongMethod

__all__ = ["Match", "NoRoute", "Parameter", "Pattern", "Router", "WrongMethod", "pattern_from"]

"""nucleon: JSON web services in plain synchronous Python on greenlets."""

__version__ = "0.1.0"

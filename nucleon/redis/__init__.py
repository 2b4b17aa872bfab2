"""Redis as a resource: every command of redis-py, on greenlets, with bounded waits, and a typed cache."""

from nucleon.redis.cache import Cache
from nucleon.redis.client import Pipeline, PubSub, Redis
from nucleon.redis.settings import Settings

__all__ = ["Cache", "Pipeline", "PubSub", "Redis", "Settings"]

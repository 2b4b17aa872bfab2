"""Redis as a resource: every command of redis-py, on greenlets, with bounded waits, and tools over it."""

from nucleon.redis.answers import Answers
from nucleon.redis.cache import Cache, Keeping
from nucleon.redis.cached import Cached
from nucleon.redis.client import Redis
from nucleon.redis.cluster import RedisCluster
from nucleon.redis.consumers import Consumption
from nucleon.redis.counters import Counter
from nucleon.redis.groups import Delivery, Group
from nucleon.redis.hub import Hub
from nucleon.redis.idempotency import Idempotency
from nucleon.redis.leases import Held, Lease, LeaseLost, LeaseTaken
from nucleon.redis.pipeline import Pipeline, PubSub
from nucleon.redis.rates import Rate, Verdict
from nucleon.redis.sessions import Session, Sessions
from nucleon.redis.settings import Settings
from nucleon.redis.streams import Stream
from nucleon.redis.subscriptions import Gap, Message, Subscription, SubscriptionClosed
from nucleon.redis.topics import Topic

__all__ = [
    "Answers", "Cache", "Cached", "Consumption", "Counter", "Delivery", "Gap", "Group", "Held", "Hub", "Idempotency", "Keeping",
    "Lease", "LeaseLost", "LeaseTaken", "Message", "Pipeline", "PubSub", "Rate", "Redis", "RedisCluster", "Session", "Sessions", "Settings",
    "Stream", "Subscription", "SubscriptionClosed", "Topic", "Verdict",
]  # fmt: skip

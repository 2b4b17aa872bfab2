"""One bounded pool for any resource: fair waiters, lifetime, validation, leak report, counters."""

from nucleon.pool.lending import Pool
from nucleon.pool.limits import Limits, PermanentFailure, PoolExhausted, SelfDeadlock
from nucleon.pool.slot import Slot

__all__ = ["Limits", "PermanentFailure", "Pool", "PoolExhausted", "SelfDeadlock", "Slot"]

"""A shared connection: what goes wrong while replies are read and handed out."""

from typing import Any

import gevent
import pytest

from nucleon import green
from nucleon.redis import Redis


def test_after_octets_that_could_not_be_read_nobody_gets_the_reply_of_another_one(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[type] = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _context, kind, *_: failed.append(kind))
    redis.rpush("list", "its own")
    link = redis._multiplexer.links[0]
    feed = link.feed

    def without_memory(*_: Any) -> None:
        link.feed = feed
        raise MemoryError

    link.feed = without_memory
    with green.deadline(5):
        assert redis.lrange("list", 0, 9) == [b"its own"]  # a read is asked again, over another connection
        assert redis.lrange("other", 0, 9) == []
    assert failed == [MemoryError]
    assert link.is_lost

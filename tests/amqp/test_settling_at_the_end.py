"""What was acknowledged right before the end stays acknowledged."""

from queue import Empty

import pytest

from nucleon.amqp import Amqp
from nucleon.testing import eventually


@pytest.mark.parametrize("how", ["stop", "close"])
@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_acknowledged_messages_do_not_come_again_after_a_stop(amqp_url: str, kind: str, how: str) -> None:
    with Amqp(url=amqp_url) as broker:
        queue = broker.queue("q", kind=kind)
        queue.put_many([b"x"] * 150)
        consumer = queue.consumer(150)
        messages = [consumer.get(timeout=10) for _ in range(100)]
        if how == "close":
            consumer.close()  # the other 50 go back
        for message in messages:
            assert message.ack()
    with Amqp(url=amqp_url) as broker:
        eventually(lambda: broker.queue("q", kind=kind).qsize() >= 50)
        with broker.queue("q", kind=kind).consumer(200) as again:
            left = [again.get(timeout=10) for _ in range(50)]
            assert len(left) == 50
            with pytest.raises(Empty):
                again.get(timeout=0.5)
            for message in left:
                message.ack()

"""The request id and the trace go with a question, into the function that serves it, and back with the answer: against a real RabbitMQ."""

from nucleon import green, hooks
from nucleon.amqp import Amqp, Message, Queue
from nucleon.message.request import Headers, Request
from nucleon.testing import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_a_question_carries_the_trace_and_its_answer_brings_it_back(broker: Amqp) -> None:
    seen: list[dict[str, object]] = []

    def answer(message: Message) -> None:
        seen.append(message.headers)
        broker.queue("notes").put(b"while it is answered")
        message.reply(b"yes")

    service = broker.queue("service")
    service.declare()
    serving = green.spawn(service.serve, answer)
    cause = Request("POST", "/orders", "", Headers({"x-request-id": "r-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}))
    token = hooks.request_id.set(cause)
    try:
        reply = broker.rpc("service", b"?", timeout=5, headers={"own": 1})
    finally:
        hooks.request_id.reset(token)
    plain = broker.rpc("service", b"?", timeout=5)
    serving.kill()
    asked, note, back = seen[0], broker.queue("notes").get(5).headers, reply.headers
    assert (asked["own"], asked["x-request-id"], note["x-request-id"], back["x-request-id"]) == (1, "r-1", "r-1", "r-1")
    parents = [str(one["traceparent"]).split("-") for one in (asked, note, back)]
    assert [(parent[1], parent[3]) for parent in parents] == [(TRACE, "01")] * 3
    assert len({"b7ad6b7169203331", *(parent[2] for parent in parents)}) == 4  # a new parent for each message
    assert seen[1] == plain.headers == {}  # nothing begins a trace, and none is left over from the one before


def test_a_served_message_is_known_by_its_message_id_in_the_log(jobs: Queue) -> None:
    seen: list[str | None] = []
    jobs.put(b"x", message_id="m-1")
    jobs.put(b"y")
    serving = green.spawn(jobs.serve, lambda _message: seen.append(hooks.request_id.get()))
    assert eventually(lambda: len(seen) == 2)
    serving.kill()
    assert seen == ["m-1", None]

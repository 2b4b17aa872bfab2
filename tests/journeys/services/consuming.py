"""A service that consumes slowly and writes down what it began and what it finished."""

import os
from pathlib import Path
from time import monotonic

from nucleon import App, Model, green
from nucleon.amqp import Amqp

app = App("consuming")
broker = app.use(Amqp())
DIARY = Path(os.environ["DIARY"])


class Work(Model):
    id: int
    seconds: float = 0.0


def note(line: str) -> None:
    with DIARY.open("a") as diary:
        diary.write(f"{line}\n")


@app.consume("work", concurrency=100, prefetch=150)
def work(body: Work) -> None:
    note(f"begun {body.id}")
    green.sleep(body.seconds)
    note(f"done {body.id}")


@app.consume("mail", exchange="events", key="work.created")
def mail(body: Work) -> None:
    note(f"mailed {body.id}")


@app.consume("poison", retries=2, retry_seconds=0.3)
def poison(body: Work) -> None:
    note(f"tried {body.id} {monotonic()}")
    raise RuntimeError("poison")


@app.post("/work", status=202)
def announce(body: Work) -> None:
    broker.publish("events", "work.created", body, mandatory=True)


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}

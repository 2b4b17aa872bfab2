"""The same service on FastAPI."""

import os
from contextlib import asynccontextmanager
from random import randint, sample

import asyncpg
import redis.asyncio
from fastapi import FastAPI, Request
from pydantic import BaseModel

POSTGRES, REDIS = os.environ.get("BENCH_POSTGRES"), os.environ.get("BENCH_REDIS")
cache = redis.asyncio.from_url(REDIS or "redis://127.0.0.1:1")


@asynccontextmanager
async def lifespan(app):
    if POSTGRES:
        parts = dict(part.split("=", 1) for part in POSTGRES.split())
        names = {"host": "host", "port": "port", "user": "user", "dbname": "database", "password": "password"}
        app.state.pool = await asyncpg.create_pool(**{names[name]: value for name, value in parts.items()}, min_size=4, max_size=10)
    yield
    if POSTGRES:
        await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    message: str


class Order(BaseModel):
    customer: str
    note: str
    lines: list[int]


class Number(BaseModel):
    id: int
    number: int


class Fortune(BaseModel):
    id: int
    message: str


ONE = "select id, number from bench_world where id = $1"
UPDATE = "update bench_world w set number = v.number from unnest($1::int[], $2::int[]) v (id, number) where w.id = v.id"


@app.get("/json")
async def greet() -> Message:
    return Message(message="Hello, world!")


class Item(BaseModel):
    id: int
    limit: int
    search: str


@app.get("/items/{item_id}")
async def read(item_id: int, limit: int = 10, search: str = "") -> Item:
    return Item(id=item_id, limit=limit, search=search)


@app.post("/echo")
async def echo(body: Order) -> Order:
    return body


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


@app.get("/db")
async def db() -> Number:
    return Number(**await app.state.pool.fetchrow(ONE, randint(1, 10000)))


@app.get("/queries")
async def queries(n: int = 1) -> list[Number]:
    async with app.state.pool.acquire() as connection:
        return [Number(**await connection.fetchrow(ONE, randint(1, 10000))) for _ in range(n)]


@app.get("/updates")
async def updates(n: int = 1) -> list[Number]:
    async with app.state.pool.acquire() as connection:
        numbers = [Number(**await connection.fetchrow(ONE, key)) for key in sorted(sample(range(1, 10001), n))]
        for each in numbers:
            each.number = randint(1, 10000)
        await connection.execute(UPDATE, [each.id for each in numbers], [each.number for each in numbers])
    return numbers


@app.get("/fortunes")
async def fortunes() -> list[Fortune]:
    found = [Fortune(**row) for row in await app.state.pool.fetch("select id, message from bench_fortunes")]
    found.append(Fortune(id=0, message="added while the request is answered"))
    found.sort(key=lambda fortune: fortune.message)
    return found


@app.get("/cached")
async def cached() -> Message:
    return Message(message=(await cache.get("benchmark") or b"nothing").decode())

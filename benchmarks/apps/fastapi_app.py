"""The same service on FastAPI."""

import os
from contextlib import asynccontextmanager

import psycopg_pool
import redis.asyncio
from fastapi import FastAPI, Request
from pydantic import BaseModel

POSTGRES, REDIS = os.environ.get("BENCH_POSTGRES"), os.environ.get("BENCH_REDIS")
pool = psycopg_pool.AsyncConnectionPool(POSTGRES or "", min_size=4, max_size=10, open=False)
cache = redis.asyncio.from_url(REDIS or "redis://127.0.0.1:1")


@asynccontextmanager
async def lifespan(_app):
    if POSTGRES:
        await pool.open()
    yield
    if POSTGRES:
        await pool.close()


app = FastAPI(lifespan=lifespan)


class Message(BaseModel):
    message: str


class Order(BaseModel):
    customer: str
    note: str
    lines: list[int]


class Row(BaseModel):
    id: int
    name: str


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


@app.get("/row")
async def row() -> Row:
    async with pool.connection() as connection:
        found = await (await connection.execute("select 1 as id, 'one' as name")).fetchone()
    return Row(id=found[0], name=found[1])


@app.get("/rows")
async def rows() -> list[Row]:
    result = []
    async with pool.connection() as connection:
        for number in range(20):
            found = await (await connection.execute("select %s::int as id, 'one' as name", (number,))).fetchone()
            result.append(Row(id=found[0], name=found[1]))
    return result


@app.get("/cached")
async def cached() -> Message:
    return Message(message=(await cache.get("benchmark") or b"nothing").decode())

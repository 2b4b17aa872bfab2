"""The HTTP part of the service on BlackSheep."""

from dataclasses import dataclass

from blacksheep import Application, Request, json

app = Application()


@dataclass
class Order:
    customer: str
    note: str
    lines: list[int]


@app.router.get("/json")
async def greet():
    return json({"message": "Hello, world!"})


@app.router.get("/items/{item_id}")
async def read(item_id: int, limit: int = 10, search: str = ""):
    return json({"id": item_id, "limit": limit, "search": search})


@app.router.post("/echo")
async def echo(body: Order):
    return json({"customer": body.customer, "note": body.note, "lines": body.lines})


@app.router.post("/upload")
async def upload(request: Request):
    return json({"size": len(await request.read())})

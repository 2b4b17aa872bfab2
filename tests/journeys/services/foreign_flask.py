"""A Flask application that knows nothing of nucleon."""

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name: str) -> Response:
    return jsonify(message=f"hello {name}", address=request.remote_addr, query=request.args.get("q"))


@app.post("/echo")
def echo() -> Response:
    return jsonify(request.get_json())


@app.get("/stream")
def stream() -> Response:
    return Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")

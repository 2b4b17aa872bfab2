"""A Falcon application that knows nothing of nucleon."""

from typing import Any

import falcon


class Hello:
    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        response.media = {"message": f"hello {name}", "query": request.get_param("q")}

    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        body: Any = request.get_media()
        response.media = body


app = falcon.App()
app.add_route("/hello/{name}", Hello())

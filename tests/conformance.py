"""A catch-all view that forwards to an origin, for the public test suite of HTTP caches.

In three shells, where npm is at hand, and ``tests`` is this folder::

    npm install http-cache-tests@0.4.5 && cd node_modules/http-cache-tests && npm run server

    ORIGIN=8000 gunicorn --threads 64 --bind 127.0.0.1:8001 --chdir tests conformance:app

    cd node_modules/http-cache-tests && npm run --silent cli --base=http://127.0.0.1:8001

The suite numbers its requests by a header, by which the origin chooses its answers. A render has no
header of a visitor, so the number travels beside it; so does ``Authorization``, which a view whose
pages are stored never reads.
"""

from __future__ import annotations

import os
import tempfile
from contextvars import ContextVar
from http.client import HTTPConnection
from http.client import HTTPException

from flask import Flask
from flask import request
from flask import Response

from flask_prerender import Prerender

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "FOO"]
VARY = ["Abc", "Accept-Language", "Bar", "Baz", "Foo"]
OF_ONE_CONNECTION = {
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
}

numbers: dict[str, str] = {}
authorization: ContextVar[str] = ContextVar("authorization", default="")

app = Flask(__name__, instance_path=tempfile.mkdtemp())
app.config.update(PRERENDER_MAX_RENDERS=200, PRERENDER_WAIT=30)
Prerender(app)


@app.route("/<path:path>", methods=METHODS)
@app.prerender(revalidate="headers", query="*", vary=VARY)
def forward(path: str) -> Response:
    names = [*VARY, "If-Modified-Since", "If-None-Match"]
    headers = {name: request.headers[name] for name in names if name in request.headers}
    if number := numbers.get(request.path):
        headers["Req-Num"] = number
    if authorization.get():
        headers["Authorization"] = authorization.get()
    target = request.full_path if request.query_string else request.path
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("ORIGIN", "8000")), timeout=20)
    try:
        connection.request(request.method, target, request.get_data() or None, headers)
        answer = connection.getresponse()
        response = Response(answer.read(), answer.status)
    except (OSError, HTTPException):
        return Response("The origin has hung up.", 502)
    finally:
        connection.close()
    named = (answer.getheader("Connection") or "").lower().replace(" ", "").split(",")
    response.headers.clear()
    for name, value in answer.getheaders():
        if name.lower() not in {*named, *OF_ONE_CONNECTION}:
            response.headers.add(name, value)
    return response


def remember(environ, start_response, inner=app.wsgi_app):
    if "HTTP_REQ_NUM" in environ:  # of a visitor: a render has none
        numbers[environ["PATH_INFO"]] = environ["HTTP_REQ_NUM"]
        authorization.set(environ.get("HTTP_AUTHORIZATION", ""))
    return inner(environ, start_response)


app.wsgi_app = remember  # type: ignore[method-assign]

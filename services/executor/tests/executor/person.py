"""Uses a JupyterLab as a browser would: `cell:CODE` runs a cell and stays, `leave:CODE` runs it and goes,
`terminal:COMMAND` types into a terminal and stays, `tidy:` ends all kernels and terminals."""
import asyncio
import json
import sys
import urllib.request
import uuid

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

base, key, script = sys.argv[1:]
what, _, text = script.partition(":")
headers = {"Authorization": f"token {key}"}


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {**headers, "Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        content = answer.read()
    return json.loads(content) if content else None


async def socket(path):
    return await websocket_connect(HTTPRequest(base.replace("http", "ws", 1) + path, headers=headers))


async def cell():
    kernel = call("POST", "api/kernels", {"name": "python3"})["id"]
    connection = await socket(f"api/kernels/{kernel}/channels")
    message = {
        "header": {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s",
                   "version": "5.3", "date": ""},
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": {"code": text, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
    }
    await connection.write_message(json.dumps(message))
    while json.loads(await connection.read_message())["msg_type"] != "execute_input":
        pass
    if what == "cell":
        while await connection.read_message() is not None:
            pass


async def terminal():
    name = call("POST", "api/terminals", {})["name"]
    connection = await socket(f"terminals/websocket/{name}")
    await connection.read_message()
    await connection.write_message(json.dumps(["stdin", text + "\r"]))
    while await connection.read_message() is not None:
        pass
    await asyncio.sleep(600)


def tidy():
    for kernel in call("GET", "api/kernels"):
        call("DELETE", "api/kernels/" + kernel["id"])
    for one in call("GET", "api/terminals"):
        call("DELETE", "api/terminals/" + one["name"])


if what == "tidy":
    tidy()
else:
    asyncio.run(terminal() if what == "terminal" else cell())

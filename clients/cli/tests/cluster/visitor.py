"""Opens a JupyterLab through the web-server: looks at its page, runs a cell over a WebSocket, and prints what both said.

Arguments: the address of the application, the file with the token, the cell."""
import asyncio
import json
import sys
import urllib.request

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

base, token_file, cell = sys.argv[1:]
headers = {"Authorization": "Bearer " + open(token_file).read().strip()}


def call(method, path):
    request = urllib.request.Request(base + path, b"{}" if method == "POST" else None, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.read().decode()


async def run(kernel):
    url = base.replace("http", "ws", 1) + f"api/kernels/{kernel}/channels"
    connection = await websocket_connect(HTTPRequest(url, headers=headers))
    content = {"code": cell, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    header = {"msg_id": "cell", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3", "date": ""}
    message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [], "content": content}
    await connection.write_message(json.dumps(message))
    while True:
        answer = json.loads(await connection.read_message())
        if answer["msg_type"] in ("stream", "error"):
            return answer["content"].get("text") or "\n".join(answer["content"]["traceback"])


status, page = call("GET", "lab")
kernel = json.loads(call("POST", "api/kernels")[1])["id"]
cell = asyncio.run(asyncio.wait_for(run(kernel), 60))
print(json.dumps({"status": status, "is_lab": "jupyter-config-data" in page, "cell": cell}))

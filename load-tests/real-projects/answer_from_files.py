"""Answers HTTPS addresses from local files, for projects that hard-code an address that a machine cannot reach.

Copied as `sitecustomize.py` into the `site-packages` of a Python environment, beside `answers.json`, a map from an
address to a file. The environment of a block's process is not the executor's, so no variable could say where that is.
An address that is not in the map fails: a check that reaches for the network unnoticed proves nothing.
"""
import email.message
import io
import json
import os
import urllib.request
import urllib.response

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "answers.json"), encoding="utf-8") as _file:
    ANSWERS = json.load(_file)


def body_of(address):
    """What the address answers."""
    if address not in ANSWERS:
        raise OSError(f"{address} has no answer in answers.json")
    with open(ANSWERS[address], "rb") as file:
        return file.read()


class _Files(urllib.request.HTTPSHandler):
    handler_order = 100

    def https_open(self, request):
        headers = email.message.Message()
        answer = urllib.response.addinfourl(io.BytesIO(body_of(request.full_url)), headers, request.full_url, 200)
        answer.msg = "OK"
        return answer


def _send(self, request, **kwargs):
    import requests

    response = requests.Response()
    response.status_code, response.url, response.request = 200, request.url, request
    response.encoding, response._content = "utf-8", body_of(request.url)
    return response


urllib.request.install_opener(urllib.request.build_opener(_Files()))
try:
    import requests.adapters
except ImportError:
    pass
else:
    requests.adapters.HTTPAdapter.send = _send

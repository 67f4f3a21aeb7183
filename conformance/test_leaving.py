"""Clients that leave before the answer is complete."""

import json
import socket
from urllib.parse import urlsplit

import pytest
from client import HELLO, ask, chat, get
from process import poll


def begin_plain(url):
    """Sends a plain request and does not wait for its answer."""
    parts = urlsplit(url)
    body = json.dumps({"model": "tiny", "messages": HELLO}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
    raw = socket.create_connection((parts.hostname, parts.port))
    raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return raw


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(True, marks=pytest.mark.case("client leaves a stream: the server stops")),
        pytest.param(False, marks=pytest.mark.case("client leaves a plain answer: the server stops")),
    ],
)
def test_client_leaves(lend, front, kind, stream):
    if not stream and not kind.stops_plain:
        pytest.skip("no such habit: the server generates a plain answer to its end, asked directly too")
    server = lend("slow")
    gateway = front(server)
    assert ask(gateway.url, max_tokens=1).whole  # the model is loaded
    if stream:
        leaver = chat(gateway.url, stream=True).words(5)
    else:
        leaver = begin_plain(gateway.url)
    poll("the request runs", lambda: server.worker() is not None and not server.idle())
    leaver.close()
    poll("the server is idle", server.idle, deadline=5.0)


@pytest.mark.case("client leaves during the load: it goes on")
def test_client_leaves_during_the_load(lend, front, kind):
    if kind.name != "ollama":
        pytest.skip("no such moment: the model is loaded before the server listens")
    server = lend("slow")
    gateway = front(server)
    server.await_line("/api/ps")  # by which the gateway learns that nothing is loaded
    leaver = begin_plain(gateway.url)
    poll("the load has begun", server.worker, pause=0.001)
    leaver.close()
    poll("the model is loaded", lambda: get(server.url, "/api/ps").json["models"], deadline=20.0)

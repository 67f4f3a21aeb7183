"""Servers that die, stop or freeze while they answer: the client gets an error, never a short answer taken for whole."""

import signal
import threading

import pytest
from client import ask, chat
from process import poll
from recitation import recitation
from servers import WORDS, LlamaServer

# So many words have reached the client when the server is hurt.
READ = 10


def check_broken(answer):
    """The answer is a true beginning, and says that it is no more than that."""
    assert not answer.whole, f"{len(answer.text.split())} words passed for whole"
    assert answer.status == 200
    assert READ <= len(answer.text.split()) < WORDS["slow"]
    assert recitation(WORDS["slow"]).startswith(answer.text)
    assert isinstance(answer.error, dict), f"not an error event: {answer.error}"


@pytest.mark.case("frozen in mid-stream (SIGSTOP): error")
def test_frozen(lend, front):
    server = lend("slow")
    exchange = chat(front(server).url, stream=True).words(READ)
    frozen = server.worker()
    server.freeze(frozen, True)
    try:
        answer = exchange.rest()
    finally:
        server.freeze(frozen, False)
    check_broken(answer)


@pytest.mark.case("worker killed in mid-stream: error")
def test_worker_killed(lend, front):
    server = lend("slow")
    if server.single:
        pytest.skip("no such process: the server is a single one")
    exchange = chat(front(server).url, stream=True).words(READ)
    server.hurt_worker(signal.SIGKILL)
    check_broken(exchange.rest())


@pytest.mark.case("worker killed, plain answer: error")
def test_worker_killed_plain(lend, front):
    server = lend("slow")
    if server.single:
        pytest.skip("no such process: the server is a single one")
    gateway = front(server)
    assert ask(gateway.url, max_tokens=1).whole  # the model is loaded
    hurt = Later(lambda: server.hurt_worker(signal.SIGKILL), when=lambda: at_work(server))
    answer = ask(gateway.url)
    hurt.join()
    assert answer.status >= 500
    assert answer.error["message"]


@pytest.mark.case("kill -9 in mid-stream: error, then 502 or 503")
def test_killed(lend, front):
    server = lend("slow")
    gateway = front(server)
    exchange = chat(gateway.url, stream=True).words(READ)
    server.kill()
    check_broken(exchange.rest())
    server.child.wait()
    answer = ask(gateway.url, max_tokens=3)
    assert answer.status in {502, 503}
    assert answer.error["code"]


@pytest.mark.case("SIGTERM in mid-stream: error")
def test_terminated(lend, front):
    server = lend("slow")
    exchange = chat(front(server).url, stream=True).words(READ)
    server.kill(signal.SIGTERM)
    check_broken(exchange.rest())


class Later(threading.Thread):
    """Does something as soon as a condition holds."""

    def __init__(self, what, when):
        super().__init__(daemon=True)
        self.what, self.when = what, when
        self.start()

    def run(self):
        poll("the moment comes", self.when, deadline=30.0)
        self.what()


class Caller(threading.Thread):
    """One streamed request in a thread of its own."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.answer = url, None
        self.start()

    def run(self):
        self.answer = ask(self.url, stream=True)


def at_work(server):
    return server.worker() is not None and not server.idle()


@pytest.mark.case("queued requests move to a second server")
def test_queue_moves(lend, front, kind):
    if LlamaServer.missing():
        pytest.skip(f"the second server: {LlamaServer.missing()}")
    second = lend("chain", of=LlamaServer)
    first = lend("slow", slots=1)
    gateway = front(first, second)
    # Taken past the gateway: all that the gateway sends to this server waits behind it.
    holder = chat(first.url, stream=True).words(READ)
    callers = [Caller(gateway.url) for _ in range(6)]
    poll("the second server has answered its share", lambda: any(c.answer for c in callers) and second.idle())
    first.kill()
    for caller in callers:
        caller.join(60)
    holder.close()
    assert [c.answer.text for c in callers] == [recitation(WORDS["chain"])] * len(callers)
    assert all(c.answer.whole and c.answer.done for c in callers)
    assert {c.answer.headers["x-forebay-backend"] for c in callers} == {"s1-llama-server"}
    moved = [c for c in callers if c.answer.headers["x-forebay-attempts"] == "2"]
    assert moved, "nobody waited at the first server"

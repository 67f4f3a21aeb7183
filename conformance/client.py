"""A client that reports exactly what came over the wire: text, finish, usage, errors, and how the body ended."""

import http.client
import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HELLO = [{"role": "user", "content": "Hello"}]
# No step of an exchange may take longer, seconds.
PATIENCE = 60.0


@dataclass
class Answer:
    """What a client knows at the end of a request."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    text: str = ""
    reasoning: str = ""
    finish: str | None = None
    usage: dict | None = None
    tool_calls: list = field(default_factory=list)
    # The error envelope, as a status or in the stream, or what the socket said.
    error: object = None
    done: bool = False

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def whole(self):
        """Whether a client takes this for a complete answer. One without an error is taken for whole by the SDKs."""
        return self.status == 200 and self.error is None

    def take_message(self, message):
        self.text += message.get("content") or ""
        self.reasoning += message.get("reasoning") or message.get("reasoning_content") or ""
        for call in message.get("tool_calls") or []:
            index = call.get("index", len(self.tool_calls))
            while len(self.tool_calls) <= index:
                self.tool_calls.append({"name": "", "arguments": ""})
            for key in ("name", "arguments"):
                self.tool_calls[index][key] += call["function"].get(key) or ""

    def take_event(self, data):
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        self.error = event.get("error") or self.error
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", []):
            self.take_message(choice.get("delta") or {})
            self.finish = choice.get("finish_reason") or self.finish


class Exchange:
    """One request whose answer is read piece by piece."""

    def __init__(self, url, path, body, headers=None):
        parts = urlsplit(url)
        self.answer = Answer()
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
        data = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        try:
            self.connection.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            self.response = self.connection.getresponse()
            self.answer.status = self.response.status
            self.answer.headers = {name.lower(): value for name, value in self.response.getheaders()}
        except (http.client.HTTPException, OSError) as error:
            self.response = None
            self.answer.error = repr(error)

    @property
    def streams(self):
        kind = self.answer.headers.get("content-type", "")
        return self.answer.status == 200 and kind.startswith("text/event-stream")

    def events(self):
        """Reads on, one event a step, to the end of the body."""
        data = []
        while line := self.response.readline():
            self.answer.body += line
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                data.append(line[5:].strip().decode())
            elif not line and data:
                self.answer.take_event("\n".join(data))
                data = []
                yield

    def words(self, count):
        """Reads until so many words have come."""
        for _ in self.events():
            if len(self.answer.text.split()) >= count:
                return self
        raise AssertionError(f"the stream ended before word {count}: {self.answer}")

    def rest(self):
        """Reads to the end and closes."""
        try:
            if self.response is None:
                return self.answer
            if self.streams:
                for _ in self.events():
                    pass
            else:
                self.answer.body = self.response.read()
                self.take_document()
        except (http.client.HTTPException, OSError) as error:
            self.answer.error = self.answer.error or repr(error)
        finally:
            self.close()
        return self.answer

    def take_document(self):
        document = self.answer.json
        self.answer.error = document.get("error")
        self.answer.usage = document.get("usage")
        for choice in document.get("choices", []):
            self.answer.take_message(choice.get("message") or {})
            self.answer.finish = choice.get("finish_reason")

    def close(self):
        """Leaves at once, whatever is still to come."""
        if self.response is not None:
            self.response.close()
        if self.connection.sock is not None:
            try:
                self.connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connection.close()


def chat(url, stream=False, model="tiny", messages=None, **more):
    """Starts a chat request."""
    body = {"model": model, "messages": messages or HELLO, "stream": stream, **more}
    return Exchange(url, "/v1/chat/completions", body)


def ask(url, **arguments):
    """A chat request to its end."""
    return chat(url, **arguments).rest()


def get(url, path):
    return Exchange(url, path, None).rest()


def post(url, path, body):
    return Exchange(url, path, body).rest()

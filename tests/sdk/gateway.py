"""The gateway and the scripted upstream, as processes."""

import json
import os
import tempfile
import urllib.request

from process import Program, poll

# What every test gateway has in common. Deadlines are short, so that a hang ends a test soon; one backend may fail as
# often as a test likes, so the breaker stays out of the way.
COMMON = """
version = 1
[server]
listen = "127.0.0.1:0"
[admin]
mode = "off"
[ops]
listen = "127.0.0.1:0"
[server.drain]
grace = "0s"
timeout = "1s"
[breaker]
consecutive_failures = 1000000
min_requests = 1000000
[discovery]
interval = "500ms"
"""


def fetch(url, body=None, method=None, timeout=10):
    """One control request: JSON in, JSON out."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def request_id(request):
    """The id that the gateway gave to one attempt."""
    return next((value for name, value in request["headers"] if name.lower() == "x-request-id"), None)


class Gateway(Program):
    """`forebay serve` on free ports."""

    def __init__(self, backends, settings=""):
        self.config = tempfile.NamedTemporaryFile("w", prefix="forebay-", suffix=".toml")
        self.config.write(COMMON + settings + "".join(backends))
        self.config.flush()
        super().__init__([os.environ["FOREBAY_BIN"], "serve", "--config", self.config.name])
        try:
            self.url = self.await_line(r"^listening on (http://\S+)$").group(1)
            self.ops = self.await_line(r"^ops on (http://\S+)$").group(1)
        except BaseException:
            self.stop()
            raise

    @property
    def base(self):
        """What a client is given as its base URL."""
        return f"{self.url}/v1"

    def models(self):
        return {model["id"] for model in fetch(f"{self.base}/models")["data"]}

    def await_models(self, *names):
        """Waits until discovery has found these models."""
        return poll(f"models {names}", lambda: set(names) <= self.models(), deadline=15.0)


def backend(name, kind, url, settings=""):
    """One `[[backend]]` table."""
    return f'\n[[backend]]\nname = "{name}"\nkind = "{kind}"\nurl = "{url}"\n{settings}\n'


class Upstream(Program):
    """`fake-upstream`, played as `profile`, with its control routes."""

    def __init__(self, profile, *models):
        named = [part for model in models for part in ("--model", model)]
        super().__init__([os.environ["FAKE_UPSTREAM_BIN"], "--profile", profile, *named])
        try:
            self.url = "http://" + self.await_line(r"^listening on (\S+)$").group(1)
        except BaseException:
            self.stop()
            raise

    def stats(self):
        return fetch(f"{self.url}/control/stats")

    def received(self, marker):
        """The inference requests whose body holds `marker`, oldest first.

        One that was sent again, because the kept connection had died before it answered, has the same id and counts once.
        """
        mine = [r for r in fetch(f"{self.url}/control/requests") if marker in r["body"]]
        return list({request_id(r): r for r in mine}.values())

"""k6 on a server that closes connections without saying so."""

import json
import os
import pathlib
import subprocess

import pytest
from servers import LlamaServer

SCRIPT = pathlib.Path(__file__).with_name("streams.js")
REQUESTS = 500


def k6(url):
    """Requests, lost ones, and failed checks of one run."""
    env = {**os.environ, "FOREBAY_URL": url, "FOREBAY_MODEL": "tiny", "K6_NO_USAGE_REPORT": "true"}
    run = subprocess.run([os.environ["K6"], "run", "--quiet", SCRIPT], env=env, capture_output=True, text=True, timeout=300)
    return json.loads(run.stdout.strip().splitlines()[-1])


@pytest.mark.case("500 k6 requests: none is lost")
def test_nothing_is_lost(lend, front, kind, note):
    if "K6" not in os.environ:
        pytest.skip(os.environ.get("K6_MISSING", "k6 was not asked for"))
    server = lend()
    if kind is LlamaServer:
        direct = k6(server.url)
        note(f"k6, {kind.name} directly: {direct['lost']} of {direct['requests']} lost")
    through = k6(front(server).url)
    note(f"k6, {kind.name} through the gateway: {through['lost']} of {through['requests']} lost")
    assert through == {"requests": REQUESTS, "lost": 0, "wrong": 0}

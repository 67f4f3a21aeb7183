"""The set-up of all contract tests: one gateway before scripted upstreams.

As a program it runs a command on that set-up: `stage.py node --test ...` finds the addresses in FOREBAY_URL, VLLM_URL
and LIMITED_URL.
"""

import contextlib
import os
import subprocess
import sys

from gateway import Gateway, Upstream, backend

# Served by the vLLM-like upstream; the second has the two characters that clients treat in a special way in paths.
TINY, SLASHED = "tiny", "lib/tiny:v1"
# The same, with its answers kept.
CACHED = "cached"
# Served by an upstream of its own: a backend that answers with Retry-After is left alone for so long.
LIMITED = "limited"
# Served by the Ollama-like upstream, which lists it as `llama:latest`.
LLAMA = "llama"

SETTINGS = """
[timeouts]
first_event = "2s"
idle = "2s"
response = "2s"
[[model]]
name = "cached"
cache = true
"""


@contextlib.contextmanager
def stage():
    """Yields (gateway, vLLM-like upstream, the upstream that limits)."""
    with contextlib.ExitStack() as stack:
        vllm = stack.enter_context(Upstream("vllm", TINY, SLASHED, CACHED))
        ollama = stack.enter_context(Upstream("ollama", LLAMA))
        limited = stack.enter_context(Upstream("plain", LIMITED))
        backends = [
            backend("vllm", "vllm", vllm.url),
            backend("ollama", "ollama", ollama.url),
            backend("limited", "openai", limited.url),
        ]
        gateway = stack.enter_context(Gateway(backends, SETTINGS))
        gateway.await_models(TINY, SLASHED, CACHED, f"{LLAMA}:latest", LIMITED)
        yield gateway, vllm, limited


def main():
    with stage() as (gateway, vllm, limited):
        env = {"FOREBAY_URL": gateway.url, "VLLM_URL": vllm.url, "LIMITED_URL": limited.url}
        code = subprocess.run(sys.argv[1:], env={**os.environ, **env}, check=False).returncode
        if code:
            print(f"--- end of the gateway's log\n{gateway.output()[-4000:]}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

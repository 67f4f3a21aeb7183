"""The set-up of all contract tests: one gateway before a vLLM-like and an Ollama-like upstream.

As a program it runs a command on that set-up: `stage.py node --test ...` finds the addresses in FOREBAY_URL, VLLM_URL
and OLLAMA_URL.
"""

import contextlib
import os
import subprocess
import sys

from gateway import Gateway, Upstream, backend

# Served by the vLLM-like upstream; the second has the two characters that clients treat in a special way in paths.
TINY, SLASHED = "tiny", "lib/tiny:v1"
# Served by the Ollama-like upstream, which lists it as `llama:latest`.
LLAMA = "llama"

SETTINGS = """
[timeouts]
first_event = "2s"
idle = "2s"
response = "2s"
"""


@contextlib.contextmanager
def stage():
    """Yields (gateway, vLLM-like upstream, Ollama-like upstream)."""
    with Upstream("vllm", TINY, SLASHED) as vllm, Upstream("ollama", LLAMA) as ollama:
        backends = [backend("vllm", "vllm", vllm.url), backend("ollama", "ollama", ollama.url)]
        with Gateway(backends, SETTINGS) as gateway:
            gateway.await_models(TINY, SLASHED)
            yield gateway, vllm, ollama


def main():
    with stage() as (gateway, vllm, ollama):
        env = {"FOREBAY_URL": gateway.url, "VLLM_URL": vllm.url, "OLLAMA_URL": ollama.url}
        code = subprocess.run(sys.argv[1:], env={**os.environ, **env}, check=False).returncode
        if code:
            print(f"--- end of the gateway's log\n{gateway.output()[-4000:]}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

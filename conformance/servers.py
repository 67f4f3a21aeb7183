"""The real servers: how each is started, asked how busy it is, and hurt."""

import os
import pathlib
import re
import signal
import socket
import tempfile
import time
import urllib.request

from process import Failed, Program, poll

MODELS = pathlib.Path(os.environ.get("MODELS", "."))
# Words of the recitation, by model.
WORDS = {"chain": 500, "slow": 500, "think": 300}
# The prompt window that every server is given, tokens.
CONTEXT = 2048
# A process whose processor time stands still for so long is idle, seconds.
STILL = 0.3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def page(url, timeout=5):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def children(pid):
    """Processes that `pid` started, by whichever thread, and theirs."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text().split():
            found += [int(child), *children(int(child))]
    return found


def command_of(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


class Server(Program):
    """A running server. Subclasses say what they can do; a test of what they cannot is no test of theirs."""

    name = ""
    # `kind` of the backend in the gateway's file.
    kind = ""
    # Environment variable with the command.
    variable = ""
    # Whether a prompt that is too long is refused.
    refuses_long_prompts = True
    # Whether a plain answer is given up when its client leaves.
    stops_plain = True
    # Whether the tiny model can be made to call a tool.
    calls_tools = False
    # What the server calls its model.
    upstream_model = "tiny"
    # Whether front and worker are one process.
    single = False
    # Seconds from start to ready.
    start_deadline = 30.0
    # Whether starting one takes so long that tests share it.
    costly = False

    @classmethod
    def missing(cls):
        """Why this server cannot run, or None."""
        if os.environ.get(cls.variable):
            return None
        return os.environ.get(f"{cls.variable}_MISSING", "not asked for")

    def __init__(self, model, command, env=None):
        self.model = model
        super().__init__(command, env)
        self.hurt = False

    def await_ready(self, path):
        def ready():
            if self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.output()[-2000:]}")
            try:
                page(self.url + path)
                return True
            except OSError:
                return None

        try:
            poll(f"{self.name} answers", ready, self.start_deadline, pause=0.1)
        except BaseException:
            self.stop()
            raise

    def running(self):
        """Requests that are being generated or wait."""
        raise NotImplementedError

    def idle(self):
        """Whether nothing is being generated."""
        return self.running() == 0

    def worker(self):
        """The process that computes, which may be the front itself."""
        return self.pid

    def freeze(self, pid, frozen):
        """Stops one process, or lets it go on."""
        self.hurt = frozen
        os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self, number=signal.SIGKILL):
        self.hurt = True
        self.signal(number)

    def hurt_worker(self, number):
        self.hurt = number == signal.SIGKILL
        os.kill(self.worker(), number)


class LlamaServer(Server):
    name, kind, variable = "llama-server", "openai", "LLAMA_SERVER"
    single = True
    stops_plain = False

    def __init__(self, model="chain", slots=2, **_):
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rsplit(":", 1)[1]
        command = [os.environ[self.variable], "-m", str(MODELS / f"{model}.gguf"), "--alias", "tiny"]
        command += ["--host", "127.0.0.1", "--port", port, "-c", str(CONTEXT * slots), "-np", str(slots)]
        command += ["-t", "1", "--metrics", "--slots"]
        if model == "random":
            command += ["--embeddings", "--pooling", "mean"]
        super().__init__(model, command)
        self.await_ready("/health")

    def running(self):
        metrics = page(f"{self.url}/metrics")
        return sum(int(n) for n in re.findall(r"^llamacpp:requests_(?:processing|deferred) (\d+)", metrics, re.M))


class Ollama(Server):
    name, kind, variable = "ollama", "ollama", "OLLAMA"
    upstream_model = "tiny:latest"
    refuses_long_prompts = False  # it drops the oldest part in silence
    calls_tools = True

    TEMPLATES = {
        "think": "{{- range .Messages }}<|im_start|>{{ .Role }}\n"
        "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|im_end|>\n"
        "{{ end }}<|im_start|>assistant\n",
        "tools": "{{- if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}"
        '{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}'
        "<|im_end|>\n{{ end }}<|im_start|>assistant\n",
    }
    PLAIN = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"

    def __init__(self, model="chain", **_):
        self.ticks, self.moved = None, 0.0
        self.home = tempfile.TemporaryDirectory(prefix="forebay-ollama-")
        self.url = f"http://127.0.0.1:{free_port()}"
        env = {
            "HOME": self.home.name,
            "OLLAMA_MODELS": f"{self.home.name}/models",
            "OLLAMA_HOST": self.url.removeprefix("http://"),
            "OLLAMA_NO_CLOUD": "1",
        }
        super().__init__(model, [os.environ[self.variable], "serve"], env)
        self.await_ready("/api/version")
        weights = "chain" if model == "tools" else model
        # More than one thread beside another busy process makes each token wait for the scheduler.
        recipe = f"FROM {MODELS / weights}.gguf\nPARAMETER num_thread 1\n"
        if model != "random":
            recipe += f'TEMPLATE """{self.TEMPLATES.get(model, self.PLAIN)}"""\n'
        path = pathlib.Path(self.home.name, "Modelfile")
        path.write_text(recipe)
        try:
            with Program([os.environ[self.variable], "create", "tiny", "-f", str(path)], env) as create:
                if create.child.wait(60) != 0:
                    raise Failed(f"ollama create:\n{create.output()[-2000:]}")
        except BaseException:
            self.stop()
            raise

    def idle(self):
        """It does not tell what it runs (/api/ps has no such field), so the runner's processor time must stand still."""
        stat = pathlib.Path(f"/proc/{self.worker()}/stat").read_text().rsplit(")", 1)[1].split()
        ticks, now = int(stat[11]) + int(stat[12]), time.monotonic()
        if self.ticks is not None and ticks != self.ticks:
            self.moved = now
        self.ticks = ticks
        return now - self.moved > STILL

    def worker(self):
        """The runner of the model; others only look for graphics cards."""
        return next((pid for pid in children(self.pid) if "--model" in command_of(pid)), None)

    def kill(self, number=signal.SIGKILL):
        runner = self.worker()
        super().kill(number)
        if number == signal.SIGKILL and runner is not None:
            os.kill(runner, signal.SIGKILL)  # it would live on

    def stop(self):
        super().stop()
        self.home.cleanup()


class Vllm(Server):
    name, kind, variable = "vllm", "vllm", "VLLM"
    calls_tools = True
    start_deadline = 600.0
    costly = True

    def __init__(self, model="chain", slots=None, **_):
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rsplit(":", 1)[1]
        command = [os.environ[self.variable], "serve", str(MODELS / model), "--served-model-name", "tiny"]
        command += ["--host", "127.0.0.1", "--port", port, "--max-model-len", str(CONTEXT)]
        command += ["--dtype", "float32", "--enforce-eager"]
        if model == "random":
            command += ["--runner", "pooling", "--convert", "embed"]
        elif model == "think":
            command += ["--reasoning-parser", "qwen3"]
        else:
            command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        if slots is not None:
            command += ["--max-num-seqs", str(slots)]
        env = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }
        super().__init__(model, command, env)
        self.await_ready("/health")

    def running(self):
        metrics = page(f"{self.url}/metrics")
        counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} ([\d.]+)", metrics, re.M)
        return sum(int(float(n)) for n in counts)

    def worker(self):
        """The engine; its name is its process title."""
        return next((pid for pid in children(self.pid) if "EngineCore" in command_of(pid)), None)


ALL = {server.name: server for server in (LlamaServer, Ollama, Vllm)}


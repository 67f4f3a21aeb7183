"""Programs that a test starts: each in a process group of its own, ended with all that it started."""

import os
import re
import signal
import subprocess
import tempfile
import time

# How long a program may take to say where it listens, seconds.
START_DEADLINE = 20.0
# How long a program may take to end by itself, seconds.
STOP_DEADLINE = 5.0


class Failed(Exception):
    """A program did not start; the message holds the end of its log."""


def poll(what, condition, deadline=10.0, pause=0.02):
    """Returns the first true value of `condition`, or fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(pause)


class Program:
    """A running program whose output goes to a file."""

    def __init__(self, command, env=None, cwd=None):
        self.log = tempfile.NamedTemporaryFile(prefix="forebay-", suffix=".log")
        self.name = os.path.basename(command[0])
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )

    @property
    def pid(self):
        return self.child.pid

    def output(self):
        with open(self.log.name, errors="replace") as log:
            return log.read()

    def await_line(self, pattern, deadline=START_DEADLINE):
        """The first match of `pattern` in the output."""

        def found():
            match = re.search(pattern, self.output(), re.MULTILINE)
            if match is None and self.child.poll() is not None:
                raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.output()[-2000:]}")
            return match

        try:
            return poll(f"{self.name} says {pattern!r}", found, deadline)
        except AssertionError as error:
            raise Failed(f"{error}\n{self.output()[-2000:]}") from None

    def signal(self, number):
        """Signals the program alone, not what it started."""
        self.child.send_signal(number)

    def stop(self):
        """Ends the whole group, gently at first; a frozen one is woken to be told."""
        for number, deadline in ((signal.SIGTERM, STOP_DEADLINE), (signal.SIGKILL, STOP_DEADLINE)):
            try:
                os.killpg(self.child.pid, number)
                os.killpg(self.child.pid, signal.SIGCONT)
            except ProcessLookupError:
                break
            try:
                self.child.wait(deadline)
            except subprocess.TimeoutExpired:
                continue
        # Children may outlive their parent.
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

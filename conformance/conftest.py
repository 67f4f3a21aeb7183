"""Fixtures and the table at the end: which server passed which case."""

import contextlib
import os

import pytest
from client import ask
from gateway import Gateway, backend
from process import poll
from servers import ALL

# A stalled answer must end soon, and the first token of a slow machine must not.
SETTINGS = """
[timeouts]
first_event = "60s"
idle = "2s"
response = "60s"
"""


class Yard:
    """The running servers. One that takes long to start is kept for the next test that wants the same; at most one
    such server is up, for it takes gigabytes."""

    def __init__(self):
        self.kept = None
        self.kept_as = None
        # What did not start, so that the next test need not wait for it again.
        self.failed = set()

    @contextlib.contextmanager
    def lend(self, kind, **how):
        reason = kind.missing()
        if reason:
            pytest.skip(reason)
        if not kind.costly:
            with kind(**how) as server:
                yield server
            return
        wanted = (kind, tuple(sorted(how.items())))
        if self.kept_as != wanted or self.kept.hurt or self.kept.child.poll() is not None:
            self.clear()
            if wanted in self.failed:
                pytest.fail(f"{kind.name} did not start before")
            try:
                self.kept, self.kept_as = kind(**how), wanted
            except BaseException:
                self.failed.add(wanted)
                raise
        yield self.kept

    def clear(self):
        if self.kept is not None:
            self.kept.stop()
        self.kept = self.kept_as = None


@pytest.fixture(scope="session")
def yard():
    yard = Yard()
    yield yard
    yard.clear()


@pytest.fixture(scope="session", params=os.environ.get("SERVERS", "llama-server").split(","))
def kind(request):
    """Each server in turn."""
    return ALL[request.param]


@pytest.fixture
def lend(yard, kind):
    """Starts a server of this kind for the test."""
    with contextlib.ExitStack() as stack:
        yield lambda model="chain", of=kind, **how: stack.enter_context(yard.lend(of, model=model, **how))


def used(gateway):
    """The backend that answers one short request."""
    return ask(gateway.url, max_tokens=1).headers["x-forebay-backend"]


@pytest.fixture
def front():
    """Puts a gateway in front of servers and waits until it knows their model at each of them."""
    with contextlib.ExitStack() as stack:

        def start(*servers, settings=SETTINGS):
            named = {f"s{i}-{server.name}": server for i, server in enumerate(servers)}
            tables = [backend(name, server.kind, server.url) for name, server in named.items()]
            if len(servers) > 1:
                deployments = ", ".join(f'{name} = "{server.upstream_model}"' for name, server in named.items())
                # In turn, whatever they say about their load: a test wants requests at each of them.
                policy = 'policy = "round_robin"'
                tables.append(f'\n[[model]]\nname = "tiny"\n{policy}\ndeployments = {{ {deployments} }}\n')
            gateway = stack.enter_context(Gateway(tables, settings))
            poll("the model is listed", lambda: {"tiny", "tiny:latest"} & gateway.models(), deadline=15.0)
            if len(servers) > 1:
                seen = set()
                poll("every server is used", lambda: seen.add(used(gateway)) or len(seen) == len(servers), deadline=15.0)
            return gateway

        yield start


# Rows in the order of the tests; for each server what to print.
TABLE = {}
REASONS = {}
NUMBERS = []


@pytest.fixture
def note():
    """Puts a line of figures under the table."""
    return NUMBERS.append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    mark = item.get_closest_marker("case")
    if mark is None:
        return report
    server = getattr(item, "callspec", None) and item.callspec.params.get("kind") or "all"
    row = TABLE.setdefault(mark.args[0], {})
    if report.skipped:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        row[server] = "-" if reason.startswith("no such") else "not run"
        REASONS[(server, reason)] = None
    elif report.failed:
        row[server] = "FAIL"
    elif report.when == "call":
        row.setdefault(server, "pass")
    return report


def pytest_terminal_summary(terminalreporter):
    columns = [*ALL, "all"]
    used = [c for c in columns if any(c in row for row in TABLE.values())]
    width = max([len(title) for title in TABLE] + [4])
    terminalreporter.section("conformance")
    terminalreporter.write_line(f"{'case':{width}}  " + "  ".join(f"{c:>12}" for c in used))
    for title, row in TABLE.items():
        cells = "  ".join(f"{row.get(c, ''):>12}" for c in used)
        terminalreporter.write_line(f"{title:{width}}  {cells}")
    for server, reason in REASONS:
        terminalreporter.write_line(f"{server}: not run: {reason}" if not reason.startswith("no such") else f"{server}: -: {reason}")
    for line in NUMBERS:
        terminalreporter.write_line(line)

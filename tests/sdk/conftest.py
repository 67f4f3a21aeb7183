"""Fixtures: one stage for the whole run, clients that point at it, and a marker that tells a test's requests apart."""

import uuid

import openai
import pytest
from stage import stage

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="session")
def actors():
    with stage() as actors:
        yield actors


@pytest.fixture
def gateway(actors):
    return actors[0]


@pytest.fixture
def vllm(actors):
    return actors[1]


@pytest.fixture
def limited(actors):
    return actors[2]


@pytest.fixture
def client(gateway):
    """The client as a user makes it, but without retries of its own."""
    with openai.OpenAI(base_url=gateway.base, api_key="sk-test", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def marker():
    """A value for `user`, by which the upstream's record finds this test's requests."""
    return f"user-{uuid.uuid4().hex}"


@pytest.fixture
def ask(client):
    """Asks for a chat answer as the script `fake` says; other arguments go to the client."""

    def create(fake=None, model="tiny", **arguments):
        body = {} if fake is None else {"fake": fake}
        return client.chat.completions.create(model=model, messages=HELLO, extra_body=body, **arguments)

    return create


def pytest_runtest_makereport(item, call):
    """Shows the gateway's log under a failed test."""
    if call.excinfo is not None and "actors" in getattr(item, "funcargs", {}):
        item.add_report_section(call.when, "gateway log", item.funcargs["actors"][0].output()[-3000:])

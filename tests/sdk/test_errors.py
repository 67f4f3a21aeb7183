"""What the client's exceptions say, and what its own retries do."""

import json

import openai
import pytest
from conftest import HELLO


def failing(status, error, **headers):
    body = json.dumps({"error": error})
    return {"answer": {"status": status, "body": body, "headers": [list(h) for h in headers.items()]}}


CONTEXT = {
    "message": "This model's maximum context length is 2048 tokens. However, your prompt is longer.",
    "type": "BadRequestError",
    "param": "input_tokens",
    "code": 400,
}
LIMIT = {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "slow"}
BUSY = {"message": "The engine is currently busy.", "type": "Service Unavailable", "param": None, "code": 503}
BROKEN = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}


@pytest.mark.parametrize("stream", [False, True])
def test_400_of_the_upstream_passes_through(ask, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(failing(400, CONTEXT), stream=stream)
    assert caught.value.body == CONTEXT
    assert CONTEXT["message"] in caught.value.message
    assert caught.value.request_id


def test_lazy_400_of_a_stream_is_a_400(ask):
    """vLLM sends some refusals as the first event of a 200."""
    event = {"at": {"events": 0}, "how": {"error_event": {"code": 400, "message": "bad temperature"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask({"fault": event}, stream=True)
    assert "bad temperature" in caught.value.message


@pytest.mark.parametrize(
    ("content", "param"),
    [(b'{"messages":[]}', "model"), (b'{"model":"tiny","Model":"x","messages":[]}', "model"), (b"{", None)],
)
def test_400_of_our_own(client, content, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, content=content, options={"headers": {"content-type": "application/json"}})
    assert caught.value.code == "invalid_request"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param == param


def test_a_wrong_upstream_key_is_not_the_clients_fault(ask):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(failing(401, "Unauthorized"))
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unauthorized")


def test_404_unknown_model(ask):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(model="nope")
    assert caught.value.code == "model_not_found"
    assert "nope" in caught.value.message


def test_404_unknown_path(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/nothing/here", cast_to=object, body={})
    assert caught.value.code == "not_found"


def test_429_keeps_its_status(ask):
    with pytest.raises(openai.RateLimitError) as caught:
        ask(failing(429, LIMIT))
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_503_keeps_its_status(ask, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(failing(503, BUSY), stream=stream)
    assert caught.value.status_code == 503
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_500_of_the_upstream(ask, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        ask(failing(500, BROKEN), stream=stream)
    assert caught.value.status_code in {500, 502}
    assert caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_502_lost_connection(ask, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        ask({"fault": {"at": "request", "how": "reset"}}, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_connection_lost")


@pytest.mark.parametrize("stream", [False, True])
def test_504_silent_upstream(ask, stream):
    with pytest.raises(openai.InternalServerError) as caught:
        ask({"fault": {"at": "request", "how": "hang"}}, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


def attempts(gateway, upstream, marker, fake, model="tiny"):
    """Lets the client retry twice and returns (the exception, requests that reached the upstream)."""
    with openai.OpenAI(base_url=gateway.base, api_key="sk-test", max_retries=2) as client:
        with pytest.raises(openai.APIError) as caught:
            client.chat.completions.create(model=model, messages=HELLO, user=marker, extra_body={"fake": fake})
    return caught.value, len(upstream.received(marker))


def test_client_retries_after_429(gateway, limited, marker):
    """The client waits as long as the upstream asked for, so each of its tries gets there."""
    error, count = attempts(gateway, limited, marker, failing(429, LIMIT, **{"retry-after": "1"}), "limited")
    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"] == "1"
    assert count == 3


def test_client_does_not_repeat_what_failover_gave_up(gateway, vllm, marker):
    """Retries of client and gateway would multiply."""
    error, count = attempts(gateway, vllm, marker, {"fault": {"at": "request", "how": "reset"}})
    assert error.status_code == 502
    assert count == 1


def test_client_does_not_repeat_a_400(gateway, vllm, marker):
    error, count = attempts(gateway, vllm, marker, failing(400, CONTEXT))
    assert isinstance(error, openai.BadRequestError)
    assert count == 1

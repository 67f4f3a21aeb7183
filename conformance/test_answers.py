"""Answers of healthy servers, held against the text that the model recites."""

import json

import pytest
from client import ask, chat, get, post
from recitation import recitation
from servers import WORDS

CITY = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "d", "strict": True, "parameters": CITY}}
DIGIT = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["n"],
    "additionalProperties": False,
}


def schema(of):
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": of}}


@pytest.mark.case("reasoning fields")
@pytest.mark.parametrize("stream", [False, True])
def test_reasoning(lend, front, stream):
    answer = ask(front(lend("think")).url, stream=stream, max_tokens=400)
    assert answer.whole
    assert answer.reasoning.split() == recitation(8).split()
    assert answer.text.split() == recitation(WORDS["think"] - 8, 8).split()


@pytest.mark.case("embeddings")
def test_embeddings(lend, front):
    server = lend("random")
    gateway = front(server)
    body = {"model": "tiny", "input": ["one", "two words"]}
    through, direct = (post(url, "/v1/embeddings", body).json["data"] for url in (gateway.url, server.url))
    assert [d["index"] for d in through] == [0, 1]
    for left, right in zip(through, direct, strict=True):
        assert left["embedding"] == pytest.approx(right["embedding"], abs=1e-5)
    assert through[0]["embedding"] != through[1]["embedding"]


@pytest.mark.case("plain answer, exact text")
def test_plain(lend, front):
    gateway = front(lend())
    for words in (1, 40, 1000):
        answer = ask(gateway.url, max_tokens=words)
        assert answer.text == recitation(min(words, WORDS["chain"]))
        assert answer.finish == ("stop" if words > WORDS["chain"] else "length")


@pytest.mark.case("streamed answer, exact text")
def test_stream(lend, front):
    gateway = front(lend())
    for words in (1, 40, 1000):
        answer = ask(gateway.url, stream=True, max_tokens=words)
        assert answer.whole
        assert answer.text == recitation(min(words, WORDS["chain"]))
        assert answer.finish == ("stop" if words > WORDS["chain"] else "length")
        assert answer.done
        assert answer.usage is None


@pytest.mark.case("four streams at once")
def test_streams_at_once(lend, front):
    gateway = front(lend())
    exchanges = [chat(gateway.url, stream=True, max_tokens=60) for _ in range(4)]
    answers = [exchange.rest() for exchange in exchanges]
    assert [a.text for a in answers] == [recitation(60)] * 4


@pytest.mark.case("usage")
def test_usage(lend, front):
    gateway = front(lend())
    plain = ask(gateway.url, max_tokens=7)
    stream = ask(gateway.url, max_tokens=7, stream=True, stream_options={"include_usage": True})
    for usage in (plain.usage, stream.usage):
        assert usage["completion_tokens"] == 7
        assert usage["total_tokens"] == usage["prompt_tokens"] + 7
    assert plain.usage["prompt_tokens"] == stream.usage["prompt_tokens"]


@pytest.mark.case("max_completion_tokens is a limit")
@pytest.mark.parametrize("stream", [False, True])
def test_max_completion_tokens(lend, front, stream):
    assert ask(front(lend()).url, stream=stream, max_completion_tokens=5).text == recitation(5)


@pytest.mark.case("context too long: 400 passes through")
@pytest.mark.parametrize("stream", [False, True])
def test_context_too_long(lend, front, kind, stream):
    server = lend()
    messages = [{"role": "user", "content": "word " * 4000}]
    answer = ask(front(server).url, stream=stream, messages=messages, max_tokens=5)
    if not kind.refuses_long_prompts:
        assert answer.text == recitation(5)
        pytest.skip("no such refusal: the server cuts the prompt in silence")
    direct = ask(server.url, stream=stream, messages=messages, max_tokens=5)
    assert (answer.status, direct.status) == (400, 400)
    assert answer.body == direct.body


@pytest.mark.case("unknown model: 404 of our own")
@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model(lend, front, stream):
    answer = ask(front(lend()).url, stream=stream, model="nope")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"


@pytest.mark.case("model list and single model")
def test_models(lend, front):
    gateway = front(lend())
    ids = [model["id"].removesuffix(":latest") for model in get(gateway.url, "/v1/models").json["data"]]
    assert ids == ["tiny"]
    assert get(gateway.url, "/v1/models/tiny").json["id"].removesuffix(":latest") == "tiny"


@pytest.mark.case("JSON schema")
@pytest.mark.parametrize("stream", [False, True])
def test_json_schema(lend, front, stream):
    answer = ask(front(lend()).url, stream=stream, response_format=schema(DIGIT), max_tokens=100, temperature=0)
    assert answer.whole, answer
    assert json.loads(answer.text)["n"] in range(1, 10)


@pytest.mark.case("tools")
@pytest.mark.parametrize("stream", [False, True])
def test_tools(lend, front, kind, stream):
    if kind.name == "ollama":
        # The tiny model says what a schema makes it say; the template turns that into a call.
        call = {"name": {"enum": ["get_weather"]}, "parameters": CITY}
        forced = {"type": "object", "properties": call, "required": list(call), "additionalProperties": False}
        server, how = lend("tools"), {"response_format": schema(forced)}
    else:
        server, how = lend(), {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    answer = ask(front(server).url, stream=stream, tools=[TOOL], temperature=0, max_tokens=200, **how)
    assert answer.whole, answer
    if not kind.calls_tools:
        assert answer.text == recitation(200)
        pytest.skip("no such call: with this model's template the server ignores the choice")
    (called,) = answer.tool_calls
    assert called["name"] == "get_weather"
    assert json.loads(called["arguments"]) == {"city": "Paris"}


@pytest.mark.case("completions")
def test_completions(lend, front, kind):
    gateway = front(lend())
    answer = post(gateway.url, "/v1/completions", {"model": "tiny", "prompt": "baba babe", "max_tokens": 3})
    # Ollama puts the prompt into the chat template, so the model begins anew.
    start = 0 if kind.name == "ollama" else 2
    assert answer.json["choices"][0]["text"].split() == recitation(3, start).split()

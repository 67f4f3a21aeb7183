"""Answers that go well: plain, streamed, tools, JSON mode, embeddings."""

import array
import asyncio
import base64
import json

import openai
import pytest
from conftest import HELLO
from recitation import recitation

WEATHER = {"name": "get_weather", "arguments": json.dumps({"city": "Köln", "unit": "C"})}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}},
            },
        },
    }
]


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@pytest.mark.parametrize("model", ["tiny", "lib/tiny:v1", "llama", "llama:latest"])
def test_chat(ask, model):
    answer = ask({"words": 12}, model=model)
    assert answer.choices[0].message.content == recitation(12)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_stream(ask, model):
    chunks = list(ask({"words": 50, "gap_ms": 1}, model=model, stream=True))
    assert text_of(chunks) == recitation(50)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {c.usage for c in chunks} == {None}


@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_stream_with_usage(ask, model):
    chunks = list(ask({"words": 9}, model=model, stream=True, stream_options={"include_usage": True}))
    assert text_of(chunks) == recitation(9)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens


def test_stream_cut_by_length(ask):
    chunks = list(ask(max_tokens=5, stream=True))
    assert text_of(chunks) == recitation(5)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_non_ascii_split_at_every_byte(ask):
    chunks = list(ask({"words": 20, "suffix": "ß€𝄞", "writes": {"bytes": [1]}}, stream=True))
    assert text_of(chunks) == " ".join(f"{word}ß€𝄞" for word in recitation(20).split())


def test_many_streams_on_one_client(ask):
    for _ in range(20):
        assert text_of(ask({"words": 8}, stream=True)) == recitation(8)


def test_streaming_helper(client):
    with client.chat.completions.stream(model="tiny", messages=HELLO) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.content == recitation(20)
    assert final.choices[0].finish_reason == "stop"


def test_reasoning(ask):
    chunks = list(ask({"words": 10, "reasoning": 4}, stream=True))
    thought = "".join(getattr(c.choices[0].delta, "reasoning", None) or "" for c in chunks)
    assert thought.split() + text_of(chunks).split() == recitation(10).split()
    assert len(thought.split()) == 4


@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_tools(ask, model):
    answer = ask({"tool_call": WEATHER}, model=model, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Köln", "unit": "C"}
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_streamed_tools(ask, model):
    names, arguments, finish = [], "", None
    for chunk in ask({"tool_call": WEATHER}, model=model, tools=TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert names == ["get_weather"]
    assert json.loads(arguments) == {"city": "Köln", "unit": "C"}
    assert finish == "tool_calls"


def test_json_mode_reaches_the_upstream(ask, vllm, marker):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    document = '{"n": 7}'
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": document}, "finish_reason": "stop"}
        ],
    }
    answer = ask({"answer": {"body": json.dumps(body)}}, response_format=wanted, user=marker)
    assert json.loads(answer.choices[0].message.content) == {"n": 7}
    (received,) = vllm.received(marker)
    assert json.loads(received["body"])["response_format"] == wanted


def test_completions(client):
    answer = client.completions.create(model="tiny", prompt="baba babe", max_tokens=3)
    assert answer.choices[0].text.split() == recitation(3, start=2).split()


def test_embeddings(client):
    """Without an encoding the client asks for base64 and decodes it; both forms are the same vectors."""
    inputs = ["one", "two", "drei ß"]
    floats = client.embeddings.create(model="tiny", input=inputs, encoding_format="float")
    default = client.embeddings.create(model="tiny", input=inputs)
    assert [d.index for d in default.data] == [0, 1, 2]
    for left, right in zip(default.data, floats.data, strict=True):
        assert list(left.embedding) == pytest.approx(right.embedding, abs=1e-6)
    raw = client.embeddings.create(model="tiny", input="one", encoding_format="base64").data[0].embedding
    assert list(array.array("f", base64.b64decode(raw))) == pytest.approx(floats.data[0].embedding, abs=1e-6)


def test_unknown_fields_and_headers(ask, vllm, marker):
    raw = ask(user=marker, seed=9223372036854775807, extra_headers={"x-request-id": "mine-1"})
    assert raw._request_id == "mine-1"
    (received,) = vllm.received(marker)
    assert '"seed":9223372036854775807' in received["body"]
    headers = {name.lower(): value for name, value in received["headers"]}
    assert headers["x-request-id"] != "mine-1", "the upstream refuses an id that it has seen"
    assert "authorization" not in headers, "the client's key is not the upstream's business"


def test_async_client(gateway):
    async def run():
        async with openai.AsyncOpenAI(base_url=gateway.base, api_key="sk-test", max_retries=0) as client:

            async def one(count):
                stream = await client.chat.completions.create(
                    model="tiny", messages=HELLO, stream=True, extra_body={"fake": {"words": count, "gap_ms": 2}}
                )
                return text_of([chunk async for chunk in stream])

            return await asyncio.gather(*(one(count) for count in range(1, 33)))

    assert asyncio.run(run()) == [recitation(count) for count in range(1, 33)]

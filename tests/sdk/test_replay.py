"""Stored answers: a client cannot tell them from new ones but by their headers."""

import pytest
from conftest import HELLO

# How often each is asked: once new, then stored.
TIMES = 3


def did(raw):
    return raw.headers.get("x-forebay-cache"), "age" in raw.headers


def arguments(marker, **more):
    return {"model": "cached", "messages": HELLO + [{"role": "user", "content": marker}], "temperature": 0, "user": marker, **more}


def assert_replayed(raws, vllm, marker):
    assert [did(raw) for raw in raws] == [("miss", False)] + [("hit", True)] * (TIMES - 1)
    assert len(vllm.received(marker)) == 1
    assert len({raw.headers["content-type"] for raw in raws}) == 1
    assert len({raw.headers["x-request-id"] for raw in raws}) == TIMES


def test_plain(client, vllm, marker):
    raws = [client.chat.completions.with_raw_response.create(**arguments(marker)) for _ in range(TIMES)]
    answers = [raw.parse() for raw in raws]
    assert_replayed(raws, vllm, marker)
    assert answers[0].choices[0].message.content
    assert all(answer.model_dump() == answers[0].model_dump() for answer in answers)
    assert all(answer.usage.total_tokens for answer in answers)


@pytest.mark.parametrize("options", [None, {"include_usage": True}])
def test_stream(client, vllm, marker, options):
    more = {} if options is None else {"stream_options": options}
    raws = [client.chat.completions.with_raw_response.create(**arguments(marker, stream=True, **more)) for _ in range(TIMES)]
    streams = [[chunk.model_dump() for chunk in raw.parse()] for raw in raws]
    assert_replayed(raws, vllm, marker)
    assert len(streams[0]) > 20
    assert all(stream == streams[0] for stream in streams)
    assert ("usage" in streams[0][-1] and streams[0][-1]["usage"] is not None) == (options is not None)


def test_stream_helper(client, vllm, marker):
    texts = []
    for _ in range(TIMES):
        with client.chat.completions.stream(**arguments(marker)) as stream:
            texts.append(stream.get_final_completion().choices[0].message.content)
    assert len(set(texts)) == 1 and texts[0]
    assert len(vllm.received(marker)) == 1


def test_completion(client, vllm, marker):
    prompt = {"model": "cached", "prompt": marker, "seed": 7}
    raws = [client.completions.with_raw_response.create(**prompt) for _ in range(TIMES)]
    answers = [raw.parse().model_dump() for raw in raws]
    assert_replayed(raws, vllm, marker)
    assert all(answer == answers[0] for answer in answers)


def test_embeddings(client, vllm, marker):
    raws = [client.embeddings.with_raw_response.create(model="cached", input=marker) for _ in range(TIMES)]
    answers = [raw.parse().model_dump() for raw in raws]
    assert_replayed(raws, vllm, marker)
    assert answers[0]["data"][0]["embedding"]
    assert all(answer == answers[0] for answer in answers)


def test_errors_are_never_replayed(client, vllm, marker):
    import openai

    broken = {"answer": {"status": 400, "body": '{"error":{"message":"no","type":"invalid_request_error"}}'}}
    for _ in range(2):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**arguments(marker), extra_body={"fake": broken})
        assert caught.value.response.headers["x-forebay-cache"] == "miss"
    assert len(vllm.received(marker)) == 2

"""Streams that break, and clients that leave. The client must see an error, never a short answer taken for whole."""

import asyncio

import openai
import pytest
from conftest import HELLO
from process import poll
from recitation import recitation

AFTER = 6
ENDINGS = {
    "error event": {"error_event": {"code": 500, "message": "EngineCore encountered an issue."}},
    "connection cut": "fin",
    "reset": "reset",
    "clean end": "clean_end",
    "half an event": "half_event",
    "half an event, clean end": "half_event_clean_end",
    "bad chunk": "bad_chunk",
    "stall": "hang",
    "comments only": {"comments": 100},
}


def broken(how):
    return {"words": 40, "gap_ms": 5, "fault": {"at": {"events": AFTER}, "how": how}}


def consume(stream):
    """Text up to the end, and the error that ended it."""
    text = ""
    try:
        for chunk in stream:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, error
    return text, None


def check(text, error):
    assert error is not None, f"a broken stream passed for whole: {text!r}"
    assert recitation(40).startswith(text)
    assert 0 < len(text.split()) <= AFTER


@pytest.mark.parametrize("how", ENDINGS.values(), ids=ENDINGS.keys())
def test_broken_stream(ask, how):
    text, error = consume(ask(broken(how), stream=True))
    check(text, error)
    if how == ENDINGS["error event"]:
        assert "EngineCore" in error.message
    else:
        assert error.code in {"upstream_stream_broken", "upstream_connection_lost", "upstream_timeout", "upstream_bad_response"}


def test_dead_runner_of_ollama(ask):
    text, error = consume(ask(broken("dead_runner"), model="llama", stream=True))
    check(text, error)
    assert error.code == "upstream_stream_broken"


@pytest.mark.parametrize("how", [ENDINGS["error event"], "fin", "clean_end", "reset"])
def test_death_before_the_first_token(ask, how):
    """Nothing has reached the client, so it gets a status, not a stream."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask({"fault": {"at": {"events": 1}, "how": how}}, stream=True)
    assert caught.value.status_code >= 500


def test_plain_answer_cut_short(ask):
    with pytest.raises(openai.APIStatusError) as caught:
        ask({"words": 40, "fault": {"at": {"bytes": 50}, "how": "fin"}})
    assert caught.value.status_code == 502


def test_missing_done_is_whole(ask):
    text, error = consume(ask({"words": 12, "omit": ["done"]}, stream=True))
    assert (text, error) == (recitation(12), None)


def test_cancel_in_mid_stream(ask, vllm):
    before = vllm.stats()["cancelled"]
    stream = ask({"words": 2000, "gap_ms": 10}, stream=True)
    for _, _ in zip(range(5), stream, strict=False):
        pass
    stream.close()
    poll("the upstream sees it", lambda: vllm.stats()["cancelled"] == before + 1)
    poll("its slot is free", lambda: vllm.stats()["in_flight"] == 0)


def test_cancel_before_the_first_token(gateway, vllm, marker):
    before = vllm.stats()["cancelled"]
    with openai.OpenAI(base_url=gateway.base, api_key="sk-test", max_retries=0, timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(
                model="tiny", messages=HELLO, user=marker, stream=True, extra_body={"fake": {"first_ms": 1500}}
            )
    poll("the upstream sees it", lambda: vllm.stats()["cancelled"] == before + 1)
    assert len(vllm.received(marker)) == 1


def test_async_cancel(gateway, vllm):
    before = vllm.stats()["cancelled"]

    async def run():
        async with openai.AsyncOpenAI(base_url=gateway.base, api_key="sk-test", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="tiny", messages=HELLO, stream=True, extra_body={"fake": {"words": 2000, "gap_ms": 10}}
            )
            await anext(stream)
            await stream.close()

    asyncio.run(run())
    poll("the upstream sees it", lambda: vllm.stats()["cancelled"] == before + 1)


def test_async_broken_stream(gateway):
    async def run():
        async with openai.AsyncOpenAI(base_url=gateway.base, api_key="sk-test", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="tiny", messages=HELLO, stream=True, extra_body={"fake": broken("clean_end")}
            )
            return [chunk async for chunk in stream]

    with pytest.raises(openai.APIError):
        asyncio.run(run())

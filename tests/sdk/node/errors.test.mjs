// Errors, retries, streams that break, clients that leave.
import assert from 'node:assert/strict';
import test from 'node:test';
import { LIMITED, OpenAI, VLLM, chat, connect, consume, poll, received, recitation, stats } from './stage.mjs';

const client = connect();

function failing(status, error, headers = {}) {
  return { answer: { status, body: JSON.stringify({ error }), headers: Object.entries(headers) } };
}

const CONTEXT = {
  message: "This model's maximum context length is 2048 tokens.",
  type: 'BadRequestError', param: 'input_tokens', code: 400,
};
const LIMIT = { message: 'slow down', type: 'rate_limit_error', param: null, code: 'slow' };

const STATUSES = [
  ['400 passes through', failing(400, CONTEXT), OpenAI.BadRequestError, 400, null],
  ['401 of the upstream is a 502', failing(401, 'Unauthorized'), OpenAI.InternalServerError, 502, 'upstream_unauthorized'],
  ['429 stays', failing(429, LIMIT), OpenAI.RateLimitError, 429, null],
  ['503 stays', failing(503, { message: 'busy', type: 'x', param: null, code: 503 }), OpenAI.InternalServerError, 503, null],
  ['a lost connection is a 502', { fault: { at: 'request', how: 'reset' } }, OpenAI.InternalServerError, 502, 'upstream_connection_lost'],
  ['silence is a 504', { fault: { at: 'request', how: 'hang' } }, OpenAI.InternalServerError, 504, 'upstream_timeout'],
];

for (const stream of [false, true]) {
  for (const [name, fake, kind, status, code] of STATUSES) {
    test(`${name}${stream ? ', streaming' : ''}`, async () => {
      await assert.rejects(chat(client, fake, { stream }), (error) => {
        assert.ok(error instanceof kind, `${error.constructor.name}`);
        assert.equal(error.status, status);
        if (code) assert.equal(error.code, code);
        assert.ok(error.requestID);
        return true;
      });
    });
  }
}

test('400 keeps its body', async () => {
  await assert.rejects(chat(client, failing(400, CONTEXT)), (error) => {
    assert.deepEqual(error.error, CONTEXT);
    return true;
  });
});

test('unknown model', async () => {
  await assert.rejects(chat(client, {}, { model: 'nope' }), { status: 404, code: 'model_not_found' });
});

for (const [name, fake, count, model = 'tiny', upstream = VLLM] of [
  ['429: the client tries three times', failing(429, LIMIT, { 'retry-after': '1' }), 3, 'limited', LIMITED],
  ['502: failover has been tried, the client tries once', { fault: { at: 'request', how: 'reset' } }, 1],
  ['400: the client tries once', failing(400, CONTEXT), 1],
]) {
  test(`retries, ${name}`, async () => {
    const marker = `user-${crypto.randomUUID()}`;
    await assert.rejects(chat(connect({ maxRetries: 2 }), fake, { model, user: marker }), OpenAI.APIError);
    assert.equal((await received(marker, upstream)).length, count);
  });
}

const AFTER = 6;
const ENDINGS = [
  ['error event', { error_event: { code: 500, message: 'EngineCore encountered an issue.' } }],
  ['connection cut', 'fin'],
  ['reset', 'reset'],
  ['clean end', 'clean_end'],
  ['half an event', 'half_event'],
  ['half an event, clean end', 'half_event_clean_end'],
  ['stall', 'hang'],
  ['dead runner', 'dead_runner', 'llama'],
];

for (const [name, how, model = 'tiny'] of ENDINGS) {
  test(`broken stream: ${name}`, async () => {
    const fake = { words: 40, gap_ms: 5, fault: { at: { events: AFTER }, how } };
    const { text, error } = await consume(await chat(client, fake, { model, stream: true }));
    assert.ok(error, `a broken stream passed for whole: ${text}`);
    assert.ok(error instanceof OpenAI.APIError, `${error.constructor.name}: ${error.message}`);
    assert.ok(text && recitation(40).startsWith(text), text);
    assert.ok(text.split(' ').length <= AFTER);
  });
}

test('cancel in mid-stream', async () => {
  const before = (await stats()).cancelled;
  const stream = await chat(client, { words: 2000, gap_ms: 10 }, { stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  await poll('the upstream sees it', async () => (await stats()).cancelled === before + 1);
});

test('abort before the first token', async () => {
  const before = (await stats()).cancelled;
  const marker = `user-${crypto.randomUUID()}`;
  const abort = new AbortController();
  const request = client.chat.completions.create(
    { model: 'tiny', messages: [], user: marker, stream: true, fake: { first_ms: 1500 } },
    { signal: abort.signal },
  );
  const refused = assert.rejects(request, OpenAI.APIUserAbortError);
  await poll('the upstream has it', async () => (await received(marker)).length === 1);
  abort.abort();
  await refused;
  await poll('the upstream sees it', async () => (await stats()).cancelled === before + 1);
});

// Answers that go well.
import assert from 'node:assert/strict';
import test from 'node:test';
import { HELLO, chat, connect, consume, received, recitation } from './stage.mjs';

const client = connect();

for (const model of ['tiny', 'lib/tiny:v1', 'llama', 'llama:latest']) {
  test(`chat with ${model}`, async () => {
    const answer = await chat(client, { words: 12 }, { model });
    assert.equal(answer.choices[0].message.content, recitation(12));
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.ok(answer._request_id);
  });
}

for (const model of ['tiny', 'llama']) {
  test(`stream of ${model}`, async () => {
    const { text, finish, error } = await consume(await chat(client, { words: 50, gap_ms: 1 }, { model, stream: true }));
    assert.deepEqual([text, finish, error], [recitation(50), 'stop', null]);
  });

  test(`streamed tool call of ${model}`, async () => {
    const tool_call = { name: 'get_weather', arguments: JSON.stringify({ city: 'Köln', unit: 'C' }) };
    const tools = [{ type: 'function', function: { name: 'get_weather', parameters: { type: 'object' } } }];
    const names = [];
    let args = '';
    let finish = null;
    for await (const chunk of await chat(client, { tool_call }, { model, tools, stream: true })) {
      for (const call of chunk.choices[0].delta.tool_calls ?? []) {
        if (call.function.name) names.push(call.function.name);
        args += call.function.arguments ?? '';
      }
      finish = chunk.choices[0].finish_reason ?? finish;
    }
    assert.deepEqual([names, JSON.parse(args), finish], [['get_weather'], { city: 'Köln', unit: 'C' }, 'tool_calls']);
  });
}

test('usage at the end of a stream', async () => {
  const usages = [];
  const stream = await chat(client, { words: 9 }, { stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) usages.push(chunk.usage);
  const last = usages.pop();
  assert.equal(last.total_tokens, last.prompt_tokens + last.completion_tokens);
  assert.ok(usages.every((usage) => usage == null));
});

test('the streaming helper, which wants every choice finished', async () => {
  const final = await client.chat.completions.stream({ model: 'tiny', messages: HELLO }).finalChatCompletion();
  assert.equal(final.choices[0].message.content, recitation(20));
});

test('non-ASCII text split at every byte', async () => {
  const { text } = await consume(
    await chat(client, { words: 20, suffix: 'ß€𝄞', writes: { bytes: [1] } }, { stream: true }),
  );
  assert.equal(text, recitation(20).split(' ').map((word) => `${word}ß€𝄞`).join(' '));
});

test('JSON mode reaches the upstream', async () => {
  const marker = `user-${crypto.randomUUID()}`;
  const response_format = { type: 'json_object' };
  const message = { role: 'assistant', content: '{"n": 7}' };
  const body = JSON.stringify({
    id: 'chatcmpl-1', object: 'chat.completion', created: 1, model: 'tiny',
    choices: [{ index: 0, message, finish_reason: 'stop' }],
  });
  const answer = await chat(client, { answer: { body } }, { response_format, user: marker });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { n: 7 });
  const [request] = await received(marker);
  assert.deepEqual(JSON.parse(request.body).response_format, response_format);
});

test('embeddings: base64 by default, the same vectors as floats', async () => {
  const input = ['one', 'two', 'drei ß'];
  const floats = await client.embeddings.create({ model: 'tiny', input, encoding_format: 'float' });
  const decoded = await client.embeddings.create({ model: 'tiny', input });
  assert.equal(decoded.data.length, 3);
  decoded.data.forEach(({ embedding }, i) => {
    assert.equal(embedding.length, floats.data[i].embedding.length);
    embedding.forEach((value, j) => assert.ok(Math.abs(value - floats.data[i].embedding[j]) < 1e-6));
  });
});

test('models: list, retrieve with / and :', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('tiny') && ids.includes('lib/tiny:v1'), `${ids}`);
  assert.equal((await client.models.retrieve('lib/tiny:v1')).id, 'lib/tiny:v1');
  await assert.rejects(client.models.retrieve('lib/nope:v1'), { status: 404, code: 'model_not_found' });
});

// Stored answers: a client cannot tell them from new ones but by their headers.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import test from 'node:test';
import { HELLO, connect, received } from './stage.mjs';

const client = connect();
const TIMES = 3;

function asked(marker, rest = {}) {
  const messages = [...HELLO, { role: 'user', content: marker }];
  return { model: 'cached', messages, temperature: 0, user: marker, ...rest };
}

async function assertReplayed(responses, marker) {
  const did = responses.map(({ headers }) => [headers.get('x-forebay-cache'), headers.has('age')]);
  assert.deepEqual(did, [['miss', false], ['hit', true], ['hit', true]]);
  assert.equal((await received(marker)).length, 1);
  assert.equal(new Set(responses.map(({ headers }) => headers.get('content-type'))).size, 1);
}

test('a plain answer', async () => {
  const marker = randomUUID();
  const [answers, responses] = [[], []];
  for (let i = 0; i < TIMES; i++) {
    const { data, response } = await client.chat.completions.create(asked(marker)).withResponse();
    const { _request_id, ...answer } = data;
    answers.push(answer);
    responses.push(response);
  }
  await assertReplayed(responses, marker);
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
});

test('a stream', async () => {
  const marker = randomUUID();
  const [streams, responses] = [[], []];
  for (let i = 0; i < TIMES; i++) {
    const { data, response } = await client.chat.completions.create(asked(marker, { stream: true })).withResponse();
    const chunks = [];
    for await (const chunk of data) chunks.push(chunk);
    streams.push(chunks);
    responses.push(response);
  }
  await assertReplayed(responses, marker);
  assert.ok(streams[0].length > 20);
  for (const chunks of streams) assert.deepEqual(chunks, streams[0]);
});

test('the streaming helper', async () => {
  const marker = randomUUID();
  const finals = [];
  for (let i = 0; i < TIMES; i++) finals.push(await client.chat.completions.stream(asked(marker)).finalChatCompletion());
  assert.ok(finals[0].choices[0].message.content);
  for (const final of finals) assert.deepEqual(final.choices, finals[0].choices);
  assert.equal((await received(marker)).length, 1);
});

test('embeddings', async () => {
  const marker = randomUUID();
  const [answers, responses] = [[], []];
  for (let i = 0; i < TIMES; i++) {
    const { data, response } = await client.embeddings.create({ model: 'cached', input: marker }).withResponse();
    answers.push(data.data);
    responses.push(response);
  }
  await assertReplayed(responses, marker);
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
});

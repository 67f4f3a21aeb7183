// The client and the addresses that stage.py hands over. The package lives in the cache folder, outside of the tree.
import { createRequire } from 'node:module';
import { setTimeout as pause } from 'node:timers/promises';

const { OpenAI } = createRequire(`${process.env.SDK_NODE_HOME}/`)('openai');

export { OpenAI };
export const BASE = `${process.env.FOREBAY_URL}/v1`;
export const VLLM = process.env.VLLM_URL;
export const LIMITED = process.env.LIMITED_URL;
export const HELLO = [{ role: 'user', content: 'Hello' }];

/** A client without retries of its own, unless options say otherwise. */
export function connect(options = {}) {
  return new OpenAI({ baseURL: BASE, apiKey: 'sk-test', maxRetries: 0, timeout: 20_000, ...options });
}

const SYLLABLES = [...'bdfgklmnprstvz'].flatMap((c) => [...'aeiou'].map((v) => c + v));

/** Words `start` to `start + count` of the text that upstreams recite. */
export function recitation(count, start = 0) {
  const n = SYLLABLES.length;
  const word = (i) => SYLLABLES[Math.floor(i / n) % n] + SYLLABLES[i % n];
  return Array.from({ length: count }, (_, i) => word(start + i)).join(' ');
}

/** Chat request whose answer the script `fake` decides. */
export function chat(client, fake, rest = {}) {
  return client.chat.completions.create({ model: 'tiny', messages: HELLO, fake, ...rest });
}

/** The text of a stream and the error that ended it, if one did. */
export async function consume(stream) {
  let text = '';
  let finish = null;
  try {
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
  } catch (error) {
    return { text, finish, error };
  }
  return { text, finish, error: null };
}

export async function stats() {
  return (await fetch(`${VLLM}/control/stats`)).json();
}

/**
 * Inference requests at an upstream whose body holds the marker. One that was sent again, because the kept connection had died
 * before it answered, has the same id and counts once.
 */
export async function received(marker, upstream = VLLM) {
  const all = await (await fetch(`${upstream}/control/requests`)).json();
  const mine = all.filter((request) => request.body.includes(marker));
  const id = (request) => request.headers.find(([name]) => name.toLowerCase() === 'x-request-id')?.[1];
  return [...new Map(mine.map((request) => [id(request), request])).values()];
}

/** Waits until `condition` holds, at most 10 seconds. */
export async function poll(what, condition) {
  const end = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within 10 s: ${what}`);
    await pause(20);
  }
}

// What the k6 scripts share: settings from the environment, requests, and checks.
//
//   FOREBAY_URL    base URL without /v1 (http://127.0.0.1:8080)
//   FOREBAY_KEY    key, if the gateway asks for one
//   FOREBAY_MODEL  model (tiny)
//   RATE           requests per second in all (20)
//   DURATION       how long (10s)

import http from "k6/http";
import { check } from "k6";

export const url = (__ENV.FOREBAY_URL || "http://127.0.0.1:8080").replace(/\/+$/, "");
export const model = __ENV.FOREBAY_MODEL || "tiny";
export const rate = Number(__ENV.RATE || 20);
export const duration = __ENV.DURATION || "10s";

// Nothing may fail and nothing may be wrong.
export const thresholds = {
  http_req_failed: ["rate==0"],
  checks: ["rate==1.0"],
};

function headers() {
  const all = { "Content-Type": "application/json" };
  if (__ENV.FOREBAY_KEY) {
    all.Authorization = `Bearer ${__ENV.FOREBAY_KEY}`;
  }
  return all;
}

function ask(stream, tags) {
  const body = {
    model,
    messages: [{ role: "user", content: "Hello" }],
    max_tokens: 16,
    stream,
  };
  return http.post(`${url}/v1/chat/completions`, JSON.stringify(body), {
    headers: headers(),
    tags,
    timeout: "60s",
  });
}

// The data of each event; k6 hands over the body when it is whole.
function events(text) {
  return text
    .split(/\r\n\r\n|\n\n|\r\r/)
    .filter((event) => event.startsWith("data:"))
    .map((event) => event.slice(5).trim());
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch (_) {
    return null;
  }
}

// A plain answer: whole JSON with text and an end.
export function plain() {
  const answer = ask(false, { kind: "plain" });
  const json = parsed(answer.body);
  const choice = json && json.choices && json.choices[0];
  check(answer, {
    "plain: status 200": (r) => r.status === 200,
    "plain: has text": () => Boolean(choice && choice.message && choice.message.content),
    "plain: has finish_reason": () => Boolean(choice && choice.finish_reason),
  });
}

// A stream: every event parses, none is an error, one finishes, and [DONE] is last.
export function stream() {
  const answer = ask(true, { kind: "stream" });
  const data = events(answer.body || "");
  const chunks = data.filter((d) => d !== "[DONE]").map(parsed);
  const choices = chunks.flatMap((c) => (c && c.choices) || []);
  check(answer, {
    "stream: status 200": (r) => r.status === 200,
    "stream: is an event stream": (r) =>
      String(r.headers["Content-Type"]).startsWith("text/event-stream"),
    "stream: every event parses": () => chunks.length > 0 && chunks.every((c) => c !== null),
    "stream: no error event": () => chunks.every((c) => !c || !c.error),
    "stream: has text": () => choices.some((c) => c.delta && c.delta.content),
    "stream: has finish_reason": () => choices.some((c) => c.finish_reason),
    "stream: ends with [DONE]": () => data[data.length - 1] === "[DONE]",
  });
}

// The list of models has the one that is asked for.
export function models() {
  const answer = http.get(`${url}/v1/models`, { headers: headers(), tags: { kind: "models" } });
  const json = parsed(answer.body);
  check(answer, {
    "models: status 200": (r) => r.status === 200,
    "models: has the model": () =>
      Boolean(json && json.data && json.data.some((m) => m.id === model || m.id === `${model}:latest`)),
  });
}

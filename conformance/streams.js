// 500 streams by four users, each over connections that k6 keeps: what is lost is lost by connection handling.
import { stream } from "../loadtest/k6/chat.js";

export const options = { vus: 4, iterations: 500 };

export default stream;

export function handleSummary(data) {
  const { http_reqs, http_req_failed, checks } = data.metrics;
  const figures = {
    requests: http_reqs.values.count,
    lost: http_req_failed.values.passes,
    wrong: checks.values.fails,
  };
  return { stdout: `${JSON.stringify(figures)}\n` };
}

// An open load: requests start at a fixed rate, half of them streams, whatever the server does.
import { duration, plain, rate, stream, thresholds } from "./chat.js";

function half(exec) {
  return {
    executor: "constant-arrival-rate",
    exec,
    // Half of the rate; over two seconds, so that an odd rate stays whole.
    rate,
    timeUnit: "2s",
    duration,
    // One is made for each request that runs; making them during the run would drop requests. Answers may take 6 s.
    preAllocatedVUs: Math.max(20, rate * 3),
    maxVUs: Math.max(20, rate * 10),
  };
}

export const options = {
  scenarios: { plain: half("plain"), stream: half("stream") },
  // A request that could not be started is a request lost.
  thresholds: Object.assign({ dropped_iterations: ["count==0"] }, thresholds),
};

export { plain, stream };

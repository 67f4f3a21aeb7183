// A few requests of each kind by one user: does it work at all?
import { models, plain, stream, thresholds } from "./chat.js";

export const options = { vus: 1, iterations: 5, thresholds };

export default function () {
  models();
  plain();
  stream();
}

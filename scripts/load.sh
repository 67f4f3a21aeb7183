#!/usr/bin/env bash
# k6 against `forebay demo`: RATE requests a second for DURATION. Fails unless every request was answered right.
# The demo kills one of its servers every 45 s, and a stream that breaks then counts as failed: stay below that.
set -euo pipefail
cd "$(dirname "$0")/.."

export RATE="${RATE:-20}" DURATION="${DURATION:-30s}" FOREBAY_MODEL=demo
k6=$(command -v k6 || conformance/install-k6.sh)
cargo build --bin forebay
binary="${CARGO_TARGET_DIR:-target}/debug/forebay"

log=$(mktemp)
demo=
finish() {
  [ -z "$demo" ] || { kill "$demo" && wait "$demo"; } 2>/dev/null || true
  rm -f "$log"
}
trap finish EXIT
FOREBAY_LISTEN=127.0.0.1:0 FOREBAY_ADMIN_LISTEN=127.0.0.1:0 FOREBAY_OPS_LISTEN=127.0.0.1:0 "$binary" demo >"$log" 2>&1 &
demo=$!

# Ready when it lists the model: then at least one of its servers is up.
for _ in $(seq 200); do
  kill -0 "$demo" 2>/dev/null || { cat "$log" >&2; exit 1; }
  url=$(sed -n 's/^listening on //p' "$log")
  [ -n "$url" ] && curl -fs "$url/v1/models/$FOREBAY_MODEL" >/dev/null && break
  sleep 0.1
done
FOREBAY_URL="${url:?the demo did not start}" "$k6" run loadtest/k6/load.js

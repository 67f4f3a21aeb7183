#!/usr/bin/env bash
# All tests. Every step runs, also after one that failed, and the output ends with the runners' own summaries.
set -euo pipefail
cd "$(dirname "$0")/.."

node_home=$(scripts/setup-tests.sh)
export PATH="${node_home:+$node_home:}$PATH"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

failed=()
step() {
  printf '\n== %s\n' "$*"
  "$@" || failed+=("$*")
}

step cargo fmt --all --check
step scripts/check-dockerfile.sh --sources
step cargo clippy --workspace --all-targets -- -D warnings
# The integration tests start the binaries of other packages too.
step cargo build --workspace --bins
step cargo test --workspace --no-fail-fast
step scripts/check-schema.sh
step scripts/check-openapi.sh
step tests/openapi/run
step tests/sdk/run

if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi

#!/usr/bin/env bash
# The committed JSON Schema against what editors use: taplo accepts every example with it, and refuses a slip.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"
version=0.9.3
home="$cache/taplo-$version"
if [ ! -e "$home/complete" ]; then
  rm -rf "$home"
  python3 -m venv "$home"
  "$home/bin/pip" install --quiet --disable-pip-version-check "taplo==$version"
  touch "$home/complete"
fi

check() { RUST_LOG=error "$home/bin/taplo" check --schema "file://$PWD/config/forebay.schema.json" "$@"; }

check config/default.toml config/examples/*.toml
slip=$(mktemp --suffix .toml)
trap 'rm -f "$slip"' EXIT
printf 'version = 1\n[server]\nlisen = "127.0.0.1:8080"\n' >"$slip"
if check "$slip" >/dev/null 2>&1; then
  echo "the schema lets an unknown key pass" >&2
  exit 1
fi
echo "schema: $(ls config/examples/*.toml config/default.toml | wc -l) files accepted, a slip refused"

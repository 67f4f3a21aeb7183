#!/usr/bin/env bash
# The committed OpenAPI document against Spectral's rules; a warning fails. Node comes from setup-tests.sh where the system's is too old.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"
version=6.16.3
home="$cache/spectral-$version"
if [ ! -e "$home/complete" ]; then
  rm -rf "$home"
  mkdir -p "$home"
  npm install --silent --no-audit --no-fund --prefix "$home" "@stoplight/spectral-cli@$version" >&2
  printf 'extends: ["spectral:oas"]\n' >"$home/ruleset.yaml"
  touch "$home/complete"
fi
"$home/node_modules/.bin/spectral" lint --ruleset "$home/ruleset.yaml" --fail-severity warn docs/openapi.json

#!/usr/bin/env bash
# Checks the Dockerfile without a container engine: its build stage runs in a temporary copy of what it copies, and the
# binary then serves and answers its health check under the user of the final stage.
#
#   --sources   only whether everything that is copied exists
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"
fail() { echo "Dockerfile: $*" >&2; exit 1; }

# One instruction a line: no comments, continuations joined.
instructions() { grep -v '^[[:space:]]*#' Dockerfile | sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*/ /;ba' -e '}' | sed '/^[[:space:]]*$/d'; }
# Those of the build stage.
build_stage() { instructions | sed -n '/^FROM .* AS build$/,/^FROM /p' | grep -v '^FROM '; }

copies=()
while read -r _ line; do
  read -ra words <<<"$line"
  copies+=("${words[@]:0:${#words[@]}-1}")
done < <(build_stage | grep '^COPY ')
[ ${#copies[@]} -gt 0 ] || fail "the build stage copies nothing"
for source in "${copies[@]}"; do
  [ -e "$source" ] || fail "COPY $source: there is no such file"
done
# A member of the workspace that is not copied would break `cargo build`.
while read -r member; do
  printf '%s\n' "${copies[@]}" | grep -qx "$member" || fail "workspace member $member is not copied"
done < <(sed -n 's/^members = \[\(.*\)\]$/\1/p' Cargo.toml | tr -d '" ' | tr ',' '\n')
instructions | grep -q '^USER 65532:65532$' || fail "the final stage runs as root"
[ "${1:-}" != --sources ] || exit 0

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
mkdir -p "$work/src" "$cache/dockerfile-target"
git ls-files -z --cached --others --exclude-standard -- "${copies[@]}" | xargs -0 cp --parents -t "$work/src"
# In the place of the cache mount.
ln -s "$cache/dockerfile-target" "$work/src/target"

while read -r _ command; do
  while [[ $command == --* ]]; do command=${command#* }; done
  command=${command// \/out\// "$work"/out/}
  echo "RUN $command"
  (cd "$work/src" && env -u CARGO_TARGET_DIR bash -ec "$command")
done < <(build_stage | grep '^RUN ')

while read -r source; do
  [ -e "$work$source" ] || [ -e "$source" ] || fail "COPY --from=build $source: the build stage does not make it"
done < <(instructions | sed -nE 's/^COPY --from=build (--[^ ]+ )*([^ ]+) .*/\2/p')

binary="$work/out/forebay"
as_user=()
if [ "$(id -u)" = 0 ]; then
  chmod 755 "$work"
  as_user=(setpriv --reuid 65532 --regid 65532 --clear-groups)
fi
"${as_user[@]}" "$binary" --version
cd /
FOREBAY_LISTEN=127.0.0.1:0 FOREBAY_ADMIN_LISTEN=127.0.0.1:0 FOREBAY_OPS_LISTEN=127.0.0.1:0 \
  "${as_user[@]}" "$binary" serve >"$work/out/log" 2>&1 &
server=$!
for _ in $(seq 100); do
  kill -0 "$server" 2>/dev/null || { cat "$work/out/log" >&2; fail "the binary does not serve"; }
  ops=$(sed -n 's#^ops on http://##p' "$work/out/log")
  [ -n "$ops" ] && FOREBAY_OPS_LISTEN=$ops "${as_user[@]}" "$binary" healthcheck && { echo "healthy on $ops"; exit 0; }
  sleep 0.1
done
fail "the health check never passed"

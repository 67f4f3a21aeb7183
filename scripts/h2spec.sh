#!/usr/bin/env bash
# h2spec --strict against the built gateway, in clear text and over TLS. Without Go there is no h2spec: says so, exit 77.
# Two kinds of failure are none: 3.5/2 in clear text (that port speaks HTTP/1.1 too, so a wrong preface gets its 400), and a
# case that passes when it is asked again alone (it lost a race with an answer that was out before the frame came).
set -euo pipefail
cd "$(dirname "$0")/.."
# How often a case is asked again.
AGAIN=20
if ! command -v go >/dev/null; then
  echo "h2spec: not run: no Go"
  exit 77
fi
bin="${XDG_CACHE_HOME:-$HOME/.cache}/forebay/bin"
if [ ! -x "$bin/h2spec" ]; then
  GOBIN="$bin" go install github.com/summerwind/h2spec/cmd/h2spec@latest
fi
cargo build --quiet --bin forebay
dir=$(mktemp -d)
gateway=
trap '[ -z "$gateway" ] || kill "$gateway"; rm -rf "$dir"' EXIT

# serve TOML: starts a gateway with these lines in [server] and sets `port`.
serve() {
  cat >"$dir/forebay.toml" <<TOML
version = 1
[ops]
listen = "127.0.0.1:0"
[admin]
mode = "off"
[store]
path = "forebay.db"
[[backend]]
name = "nobody"
kind = "openai"
url = "http://127.0.0.1:9"
[server]
listen = "127.0.0.1:0"
$1
TOML
  "${CARGO_TARGET_DIR:-target}/debug/forebay" serve --config "$dir/forebay.toml" >"$dir/out" 2>"$dir/log" &
  gateway=$!
  port=
  for _ in $(seq 200); do
    port=$(sed -nE 's/^listening on .*:([0-9]+)$/\1/p' "$dir/out")
    [ -n "$port" ] && return
    sleep 0.05
  done
  cat "$dir/log"
  return 1
}

# spec ARGS...: one run of h2spec.
spec() {
  "$bin/h2spec" --strict --insecure --host 127.0.0.1 --port "$port" --path /v1/models --timeout 3 "$@"
}

# cases: the failed ones of a run, such as http2/5.1/9.
cases() {
  awk '/^Failures:/ { on = 1 }
    !on { next }
    /^Generic/ { part = "generic" }
    /^HPACK/ { part = "hpack" }
    /^Hypertext/ { part = "http2" }
    /^ *[0-9][0-9.]*\. / { section = $1; sub(/\.$/, "", section) }
    /^ *× [0-9]+:/ { number = $2; sub(/:.*/, "", number); print part "/" section "/" number }' "$1"
}

# run NAME ALLOWED ARGS...: the whole suite.
run() {
  local name=$1 allowed=$2 bad=0
  shift 2
  spec "$@" >"$dir/report" 2>&1 || true
  if ! grep -qE '^[1-9][0-9]* tests, ' "$dir/report"; then
    tail -5 "$dir/report"
    return 1
  fi
  for case in $(cases "$dir/report"); do
    local passed=0
    if [ "$case" = "$allowed" ]; then
      echo "h2spec, $name: $case: as expected"
      continue
    fi
    for _ in $(seq "$AGAIN"); do
      if spec "$@" "$case" >"$dir/again" 2>&1; then
        passed=1
        break
      fi
    done
    if [ "$passed" = 1 ]; then
      echo "h2spec, $name: $case: lost a race, passes alone"
    else
      echo "h2spec, $name: $case: FAILED"
      sed -n '/^Failures:/,$p' "$dir/again"
      bad=1
    fi
  done
  echo "h2spec, $name: $(tail -1 "$dir/report")"
  return "$bad"
}

status=0
serve ""
run "clear text" http2/3.5/2 || status=1
kill "$gateway"
gateway=
if command -v openssl >/dev/null; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
  serve "[server.tls]
cert = \"cert.pem\"
key = \"key.pem\""
  run TLS "" --tls || status=1
else
  echo "h2spec, TLS: not run: no openssl"
fi
exit "$status"

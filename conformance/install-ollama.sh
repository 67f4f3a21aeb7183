#!/usr/bin/env bash
# Builds Ollama from its Go module: about five minutes once. Ends with the path of the binary on stdout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

version=v0.24.0
root="$cache/ollama-$version"
binary="$root/bin/ollama"

need go g++
one_at_a_time ollama
if [ ! -x "$binary" ]; then
  mkdir -p "$root"
  # The module lacks two folders of C headers (nlohmann/json among them); llama.cpp's sources have them.
  "$here/install-llama-server.sh" >/dev/null || give_up "its headers come with llama-server, which is not installed"
  headers=$(echo "$cache"/llama-server-*/llama_cpp_python-*/vendor/llama.cpp/vendor)
  [ -d "$headers/nlohmann" ] || give_up "no nlohmann headers in $headers"
  export CGO_CPPFLAGS="-I$headers" GOPATH="$root/go" GOBIN="$root/bin" GOFLAGS="-p=${FOREBAY_BUILD_JOBS:-2} -modcacherw"
  step ollama-build nice -n 19 go install "github.com/ollama/ollama@$version"
  rm -rf "$root/go"
fi
[ -x "$binary" ] || give_up "the build left no ollama"
echo "$binary"

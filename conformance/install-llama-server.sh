#!/usr/bin/env bash
# Builds llama.cpp's server from the sources inside the llama-cpp-python sdist: about ten minutes once,
# then nothing. Ends with the path of the binary on stdout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

version=0.3.36
root="$cache/llama-server-$version"
source="$root/llama_cpp_python-$version/vendor/llama.cpp"
binary="$root/build/bin/llama-server"

need python3 g++ tar
one_at_a_time llama-server
mkdir -p "$root"

# The sources are wanted by the Ollama build too, so they are fetched even when the binary is there.
if [ ! -e "$root/unpacked" ]; then
  step llama-download python3 -m pip download --no-deps --no-binary llama-cpp-python \
    --dest "$root" "llama-cpp-python==$version"
  archive=$(find "$root" -maxdepth 1 -name 'llama_cpp_python-*.tar.gz' | head -n 1)
  [ -n "$archive" ] || give_up "the llama-cpp-python sources could not be downloaded"
  step llama-unpack tar xzf "$archive" -C "$root"
  rm -f "$archive"
  touch "$root/unpacked"
fi

if [ ! -x "$binary" ]; then
  if [ ! -x "$root/venv/bin/ninja" ]; then
    step llama-venv python3 -m venv "$root/venv"
    step llama-tools "$root/venv/bin/pip" install --quiet cmake ninja
  fi
  export PATH="$root/venv/bin:$PATH"
  # The prebuilt UI would be fetched from the network at configure time.
  step llama-configure cmake -G Ninja -B "$root/build" -S "$source" -DCMAKE_BUILD_TYPE=Release \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_OPENSSL=OFF -DGGML_OPENMP=OFF -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON
  step llama-build nice -n 19 cmake --build "$root/build" --target llama-server -j "${FOREBAY_BUILD_JOBS:-2}"
fi

[ -x "$binary" ] || give_up "the build left no llama-server"
echo "$binary"

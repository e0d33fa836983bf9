#!/usr/bin/env bash
# Builds the CUDA path, checks every kernel against its twin, and measures.
#
# Needs g++; with nvcc and a GPU it checks and measures on the GPU, without them by
# emulation, and says so. Works on a bare machine without network: what comes from npm
# (Bun, the headers of Node-API, services as bundles) and nats-server travel as
# build/gpu-pack.tar.xz, made by --pack.
set -uo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'TEXT'
Builds the CUDA kernels, checks each against its twin, and measures them.
  deno task gpu [flags]      or: bash infra/gpu/run.sh [flags]
    --seconds N   for the benchmark of kernels and models (default 150)
    --quick       fewer shapes, a benchmark of 20 seconds, no sanitizer
    --out DIR     where results go (default bench-results/gpu)
    --json        print the results as JSON instead of tables
    --pack        only make build/gpu-pack.tar.xz for a machine without network
    --help        this text
TEXT
}

seconds=150 quick="" out="bench-results/gpu" json="" pack=""
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds | --out)
      if [ $# -lt 2 ]; then echo "Cannot run: $1 needs a value, found none" >&2; exit 2; fi
      if [ "$1" = --seconds ]; then seconds="$2"; else out="$2"; fi
      shift ;;
    --quick) quick=1; seconds=20 ;;
    --json) json=1 ;;
    --pack) pack=1 ;;
    --help) usage; exit 0 ;;
    --) ;;
    *) echo "Cannot run: needs one of the flags below, found \"$1\"" >&2; usage >&2; exit 2 ;;
  esac
  shift
done
if ! [[ "$seconds" =~ ^[0-9]+$ ]] || [ "$seconds" -lt 1 ]; then
  echo "Cannot run: --seconds needs a whole number from 1, found \"$seconds\"" >&2; exit 2
fi

say() { echo "gpu: $*" >&2; }
took() { echo "$(( $(date +%s) - started )) s"; }
started=$(date +%s)
failed=0
# All of it takes less than 8 minutes: a stage gets its own limit or what is left.
budget=460
seconds_left() { # of the budget, at most $1
  local left=$(( budget - ($(date +%s) - started) ))
  if [ "$left" -gt "$1" ]; then left="$1"; fi
  if [ "$left" -lt 0 ]; then left=0; fi
  echo "$left"
}
within() { # seconds, then a command; 124 when its time or all time is over
  local limit; limit="$(seconds_left "$1")"; shift
  if [ "$limit" -lt 1 ]; then return 124; fi
  timeout -k 5 "$limit" "$@"
}

make_pack() {
  local bun="node_modules/@oven/bun-linux-x64/bin/bun" headers="node_modules/node-api-headers/include"
  if [ ! -f "$bun" ] || [ ! -d "$headers" ]; then
    echo "Cannot pack: needs $bun and $headers. Run: deno task setup" >&2; exit 1
  fi
  local nats service
  nats="$(command -v nats-server || ls /usr/sbin/nats-server 2>/dev/null)"
  if [ -z "$nats" ]; then
    echo "Cannot pack: needs nats-server on the PATH, found none. Run: deno task setup" >&2; exit 1
  fi
  rm -rf build/gpu-mesh
  mkdir -p build/gpu-mesh
  # Services with their npm packages, one file each, as deep as the sources' folders.
  for service in router prefill decode; do
    "$bun" build "services/$service/main.ts" --target=bun --minify-whitespace --minify-syntax --outfile="build/gpu-mesh/$service.js" >/dev/null || exit 1
  done
  "$bun" build infra/gpu/demo_mesh.ts --target=bun --minify-whitespace --minify-syntax --outfile=build/gpu-mesh/demo_mesh.js >/dev/null || exit 1
  cp "$nats" build/gpu-mesh/nats-server
  # Bun is nearly all of it: a filter for its instructions, and a dictionary that holds it.
  tar -c "$bun" "$headers" build/gpu-mesh | xz --x86 --lzma2=preset=9e,dict=128MiB >build/gpu-pack.tar.xz || exit 1
  local mib=$(( $(stat -c %s build/gpu-pack.tar.xz) / 1048576 ))
  say "packed build/gpu-pack.tar.xz, $mib MiB"
  if [ "$mib" -gt 40 ]; then echo "The pack is bigger than 40 MiB" >&2; exit 1; fi
}
if [ -n "$pack" ]; then make_pack; exit 0; fi

if ! command -v g++ >/dev/null; then
  echo "Cannot build: needs g++, found none. On Debian: apt-get install g++" >&2; exit 1
fi
rm -rf build/gpu/objects
mkdir -p build/gpu/objects "$out"
rm -f "$out"/*.json "$out"/*.txt
if [ -f build/gpu-pack.tar.xz ] && [ ! -d node_modules/node-api-headers ]; then
  tar -xJf build/gpu-pack.tar.xz && say "unpacked build/gpu-pack.tar.xz"
fi

# --- what is here ---
nvcc=""
for candidate in "${CUDA_HOME:-/nonexistent}/bin/nvcc" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
  if [ -x "$candidate" ]; then nvcc="$candidate"; break; fi
done
gpu=""
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  gpu="$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)"
fi
if [ -z "$nvcc" ]; then say "no nvcc: kernels for a GPU cannot be built"; fi
if [ -z "$gpu" ]; then say "no GPU: nothing below was measured on hardware"; else say "GPU: $gpu"; fi

# --- build ---
# The addon and nvcc take longest: they start first, and all of it goes on at once.
jobs=$(nproc)
runtime=""
for candidate in node_modules/@oven/bun-linux-x64/bin/bun "$(command -v bun || true)"; do
  if [ -n "$candidate" ] && [ -x "$candidate" ]; then runtime="$candidate"; break; fi
done
addon_build=""
if [ -n "$runtime" ] && [ -d node_modules/node-api-headers/include ]; then
  within 240 "$runtime" kernels/build.ts >"$out/addon.txt" 2>&1 &
  addon_build=$!
fi
kernel_build=""
if [ -n "$nvcc" ]; then
  within 240 "$nvcc" -fatbin -std=c++17 -O3 --threads "$jobs" -gencode=arch=compute_80,code=sm_80 \
    -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_90,code=compute_90 \
    kernels/cuda/kernels.cu -o build/quetzal.fatbin &
  kernel_build=$!
fi
host="-std=c++20 -fPIC -pthread -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas"
backend="batch cuda_driver cuda_launch cuda_model cuda_plan cuda_repack cuda_weights memory op_check plan pool spec status weights"
check_sources="$(ls kernels/cuda/check/*.cpp kernels/ref/*.cpp) $(for name in $backend; do echo "kernels/addon/$name.cpp"; done)"
compile() { # sources, one a line, to build/gpu/objects
  within 240 xargs -P "$jobs" -I{} sh -c \
    'g++ '"$host"' -O1 -c {} -o build/gpu/objects/$(basename $(dirname {}))_$(basename {}).o'
}
echo "$check_sources" | tr ' ' '\n' | sed '/^$/d' | compile || { say "the check does not build in time"; exit 1; }
objects="$(for source in $check_sources; do echo "build/gpu/objects/$(basename "$(dirname "$source")")_$(basename "$source").o"; done)"
# shellcheck disable=SC2086
within 60 g++ $objects -ldl -pthread -o build/gpu/check || { say "the check does not link in time"; exit 1; }
have_kernels=""
if [ -n "$kernel_build" ]; then
  if wait "$kernel_build"; then
    have_kernels=1
    say "built build/quetzal.fatbin, $(( $(stat -c %s build/quetzal.fatbin) / 1024 )) KiB ($(took))"
  else
    failed=1; say "nvcc cannot build the kernels in time: what follows is checked by emulation"
  fi
fi

if [ -n "$gpu" ] && [ -n "$have_kernels" ]; then
  library="libcuda.so.1" fatbin="build/quetzal.fatbin"
else
  # shellcheck disable=SC2086
  within 200 g++ $host -O2 -DQUETZAL_EMULATION -c kernels/cuda/emulation/fake_cuda.cpp -o build/gpu/objects/fake_cuda.o & fake=$!
  # shellcheck disable=SC2086
  within 200 g++ $host -O2 -c kernels/cuda/emulation/emulation.cpp -o build/gpu/objects/emulation.o || exit 1
  wait "$fake" || exit 1
  g++ -shared build/gpu/objects/fake_cuda.o build/gpu/objects/emulation.o -pthread -o build/gpu/libcuda.so.1 || exit 1
  library="$PWD/build/gpu/libcuda.so.1" fatbin="$PWD/build/gpu/libcuda.so.1"
  seconds=$(( seconds < 20 ? seconds : 20 ))
  say "checking by emulation"
fi
say "built ($(took))"

# --- check ---
seed=$(date +%s)
# shellcheck disable=SC2086
if QUETZAL_FAKE_CUDA_QUIET=1 within 120 build/gpu/check --library "$library" --fatbin "$fatbin" --seed "$seed" \
    ${quick:+--quick} --json >"$out/check.json"; then
  say "all $(grep -c '"ok": true' "$out/check.json") cases agree with their twins, seed $seed ($(took))"
else
  failed=1
  say "some kernels differ from their twins, or the check did not end, seed $seed:"
  grep '"ok": false' "$out/check.json" >&2
fi

# --- measure ---
if within $(( seconds + 45 )) build/gpu/check --library "$library" --fatbin "$fatbin" \
    --bench "$(seconds_left "$seconds")" >"$out/bench.json"; then
  say "measured kernels and models ($(took))"
else
  failed=1; say "the benchmark failed; what it measured until then is kept"
fi
echo null >"$out/demo.json"
echo null >"$out/mesh.json"
run_mesh() { # from the sources, or from bundles where no npm packages are
  local mesh="infra/gpu/demo_mesh.ts"
  if [ ! -d node_modules/@grpc ]; then mesh="build/gpu-mesh/demo_mesh.js"; fi
  if [ ! -f "$mesh" ]; then
    say "no npm packages and no $mesh: the mesh did not run"
  elif [ ! -f build/gpu-mesh/nats-server ] && ! command -v nats-server >/dev/null && [ ! -x /usr/sbin/nats-server ]; then
    say "no nats-server: the mesh did not run"
  elif within 90 "$runtime" "$mesh" --library "$library" --fatbin "$(realpath "$fatbin")" \
      ${quick:+--quick} --json >"$out/mesh.json.new" 2>"$out/mesh.txt"; then
    mv "$out/mesh.json.new" "$out/mesh.json"; say "ran the demo pair through a mesh ($(took))"
  else
    failed=1; say "the mesh failed or took too long: $(tail -3 "$out/mesh.txt")"
  fi
}
if [ -n "$addon_build" ]; then
  if ! wait "$addon_build"; then
    failed=1; say "the addon does not build: $(tail -3 "$out/addon.txt")"
  elif within 120 "$runtime" infra/gpu/demo_decode.ts --library "$library" --fatbin "$(realpath "$fatbin")" \
      ${quick:+--quick} --json >"$out/demo.json.new" 2>"$out/demo.txt"; then
    mv "$out/demo.json.new" "$out/demo.json"; say "ran the demo model through the engine ($(took))"
  else
    failed=1; say "the demo model failed or took too long: $(tail -3 "$out/demo.txt")"
  fi
  run_mesh
else
  say "no Bun or no Node-API headers: the engine did not run (deno task gpu --pack makes a pack)"
fi

# --- look for bad accesses ---
sanitizer="$(command -v compute-sanitizer || true)"
if [ -z "$sanitizer" ] && [ -x /usr/local/cuda/bin/compute-sanitizer ]; then sanitizer=/usr/local/cuda/bin/compute-sanitizer; fi
sanitize() { # memcheck or racecheck
  within 60 "$sanitizer" --tool "$1" --error-exitcode 9 build/gpu/check --fatbin "$fatbin" \
    --quick --seed "$seed" >"$out/$1.txt" 2>&1
  local code=$?
  case "$code" in
    0) say "$1 is clean ($(took))" ;;
    9) failed=1; say "$1 found faults, see $out/$1.txt" ;;
    1) failed=1; say "kernels differ from their twins under $1, see $out/$1.txt" ;;
    124 | 137) say "$1 ran out of time: it says nothing" ;;
    *) say "$1 could not run (status $code), see $out/$1.txt" ;;
  esac
}
if [ "$library" = libcuda.so.1 ] && [ -z "$quick" ]; then
  if [ -n "$sanitizer" ]; then sanitize memcheck
  else say "no compute-sanitizer: memcheck and racecheck did not run"; fi
fi

# --- with the time that is left: compare, look for races ---
echo null >"$out/torch.json"
if [ "$library" = libcuda.so.1 ] && [ -z "$quick" ]; then
  within 60 python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null
  has_torch=$?
  torch_seconds="$(seconds_left 110)"
  if [ "$has_torch" = 124 ]; then
    say "PyTorch took too long to import: nothing to compare with"
  elif [ "$has_torch" != 0 ]; then
    say "no PyTorch with CUDA: nothing to compare with"
  elif [ "$torch_seconds" -lt 30 ]; then
    say "no time is left for PyTorch"
  else
    within 110 python3 infra/gpu/torch_decode.py $(( torch_seconds - 20 )) \
      >"$out/torch.json.new" 2>"$out/torch.txt" || say "PyTorch's decode loop did not end well, see $out/torch.txt"
    # What it measured before it failed counts too.
    if [ -s "$out/torch.json.new" ]; then mv "$out/torch.json.new" "$out/torch.json"; say "measured PyTorch ($(took))"; fi
  fi
fi

if [ "$library" = libcuda.so.1 ] && [ -z "$quick" ] && [ -n "$sanitizer" ]; then sanitize racecheck; fi

# --- tell ---
if command -v python3 >/dev/null; then
  python3 infra/gpu/report.py "$out" ${json:+--json} || failed=1
else
  say "no python3: results lie in $out as check.json, bench.json, torch.json, demo.json"
fi
if [ "$library" != libcuda.so.1 ]; then
  say "no GPU here, or no kernels for it: everything above ran by emulation, no time is that of a GPU"
fi
say "done in $(took)$([ "$failed" = 0 ] || echo ", with failures")"
exit "$failed"

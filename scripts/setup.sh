#!/usr/bin/env bash
# Makes .venv with everything that the tour and the tests need. Run by `make`; safe to run again.
#
# torch comes first and in its CPU build, so that nothing afterwards pulls CUDA packages by accident.
# A Python that already has torch (as GPU machines and their images do) keeps it and is built upon.
#
#   PYTHON=python3.11 scripts/setup.sh     another interpreter
#   TORCH=auto scripts/setup.sh            the build that suits this machine's GPU (uses uv)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install_torch.sh

python=${PYTHON:-python3}
wanted=${TORCH:-cpu}
venv=.venv
stamp=$venv/installed.sha256
inputs=(pyproject.toml constraints.txt requirements-demo.txt scripts/setup.sh scripts/install_torch.sh)

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "setup: $python is older than Python 3.11: give another one as PYTHON=..." >&2; exit 1; }
fingerprint=$(cat "${inputs[@]}" | "$python" -c \
  'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
if [ -f $stamp ] && [ "$(cat $stamp)" = "$fingerprint" ]; then exit 0; fi

has_torch=no
"$python" -c 'import torch' 2>/dev/null && has_torch=yes
if [ ! -x $venv/bin/python ]; then
  echo "setup: making $venv (a few minutes, once)"
  if [ $has_torch = yes ]; then
    "$python" -m venv --system-site-packages $venv
  else
    "$python" -m venv $venv
  fi
fi
pip() { $venv/bin/python -m pip --disable-pip-version-check "$@"; }

if [ $has_torch = yes ] || $venv/bin/python -c 'import torch' 2>/dev/null; then
  # What is there stays: the pins that would replace it are left out.
  grep -v -E '^(torch|transformers|tokenizers|accelerate|huggingface-hub|numpy)==' \
    constraints.txt > $venv/constraints.txt
  $venv/bin/python -c 'import torch; print(f"torch=={torch.__version__}")' >> $venv/constraints.txt
else
  cp constraints.txt $venv/constraints.txt
  install_torch $venv "$wanted"
fi

pip install -q -c $venv/constraints.txt -e '.[dev]'
pip install -q -c $venv/constraints.txt --no-deps -r requirements-demo.txt

if [ "$wanted" = cpu ] && [ $has_torch = no ]; then
  if pip list 2>/dev/null | grep -i -E '^(nvidia|cuda|triton)'; then
    echo "setup: the packages above are CUDA's and were not asked for: rm -r $venv and try again" >&2
    exit 1
  fi
fi
echo "$fingerprint" > $stamp

#!/usr/bin/env bash
# Checks what `pip install mulap` gives: builds the wheel, installs it without extras in a bare venv,
# without PyTorch, and embeds, tags and finds a file from outside the checkout. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
venv=$place/venv

# From a copy, since building leaves its own folders beside the sources.
mkdir "$place/copy"
tar --exclude=./.git --exclude=./.venv --exclude=./tour -cf - . | tar -xf - -C "$place/copy"
"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip wheel -q --no-deps -w "$place" "$place/copy"
pip install -q -c constraints.txt "$place"/mulap-*.whl
if pip list 2>/dev/null | grep -i -E '^(torch|transformers|onnx|scipy|scikit-learn|matplotlib|accelerate|numba|tensorboard|ray) '; then
  echo "check_wheel: the packages above belong to extras, which were not asked for" >&2
  exit 1
fi

cd "$place"
"$venv/bin/python" - <<'PYTHON'
import array, math, wave

with wave.open("tone.wav", "wb") as out:
    out.setnchannels(2)
    out.setsampwidth(2)
    out.setframerate(44_100)
    tone = (int(9_000 * math.sin(2 * math.pi * 440 * i / 44_100)) for i in range(7 * 44_100))
    out.writeframes(array.array("h", (each for sample in tone for each in (sample, sample))))
PYTHON
"$venv/bin/mulap" embed tone.wav -o tone.npz
"$venv/bin/mulap" tag tone.wav --top 3
"$venv/bin/python" -c '
import numpy as np
assert np.load("tone.npz")["embeddings"].shape == (2, 3012)
'
mkdir music && cp tone.wav music
"$venv/bin/mulap" index music --library library
"$venv/bin/mulap" search "a sine tone" --library library | grep -q tone
"$venv/bin/mulap" config small | grep -q '^extends: pretrain/contrastive$'
echo "check_wheel: the wheel embeds, tags, searches and has its configurations, without extras"

#!/usr/bin/env bash
# Makes benchmarks/.venv, in which the package musicnn 0.1.0 (TensorFlow) runs: about 1.5 GB.
#
#   PYTHON=python3.11 benchmarks/setup_musicnn.sh
#
# It cannot share our .venv: it is written for TensorFlow 1's layers, which TensorFlow has up to 2.15,
# which wants NumPy 1; and its own pins are of 2019, so it is installed without its dependencies.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3.11}
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install -q "tensorflow-cpu==2.15.1" "librosa==0.11.0" "numpy==1.26.4" "setuptools<81"
pip install -q --no-deps "musicnn==0.1.0"
TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -W ignore -c 'import musicnn.extractor'

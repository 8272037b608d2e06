#!/usr/bin/env bash
# Rebuilds mulap-small: corpus, weights, and what docs/mulap-small.md shows.
#
#   bash runs/small.sh             writes small/; fetches 8 GB
#   bash runs/small.sh --small     a tenth of it in small-tenth/, 8 minutes: to see that everything runs
#
# Only --small has been run from end to end: the shipped weights came from the same steps, one by one.
#
# Needs npm, apt-get and dpkg beside make's set-up. Run it again to resume. The weights that it makes
# lie in OUT/mulap-small; a release copies them to mulap/weights.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1

out=small hours=15 corpus=() training=()
if [ "${1:-}" = --small ]; then
  out=small-tenth hours=1.5
  corpus=(--packages singularity-music,wesnoth-1.16-music,colobot-common-sounds,hex-a-hop-data,flare-game,freecol,weshop-music-package-jazzhop,weshop-music-package-funk-soul)
  training=(--set training.num_epochs=6 --set training.batch_size=64 --set training.micro_batch_size=64)
fi
mkdir -p "$out"
pip install --quiet --no-deps -r requirements-demo.txt

mulap corpus free-music "$out/corpus" --hours "$hours" ${corpus[@]+"${corpus[@]}"} || [ $? = 3 ]
features=(--set "data.features_folder=$out/features")  # of both musicnns, computed once
mulap pretrain warm --data "$out/corpus" --output "$out/warm" "${features[@]}" ${training[@]+"${training[@]}"}
mulap pretrain joint --data "$out/corpus" --output "$out/run" "${features[@]}" ${training[@]+"${training[@]}"} \
  --set "model.weights=$out/warm/best"
python scripts/ship_weights.py "$out/run/best" "$out/mulap-small" --data "$out/corpus"

mulap evaluate "$out/warm" --data "$out/corpus" --split test --pool 200 --per-group 12
mulap evaluate "$out/run" --data "$out/corpus" --split test --pool 200 --per-group 12
mulap probe --data "$out/corpus/machine-made/metadata.csv" --label style --backbone "$out/mulap-small" --zero-shot \
  --cache "$out/cache"

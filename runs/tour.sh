#!/usr/bin/env bash
# All of mulap in about 13 minutes on two cores: the table of contents of this repository.
#
#   make tour            writes tour/, ends with tour/report.md
#
# Every stage can be run alone; each is one command of `mulap`, or the report's script. The times are
# those of one run on two cores (docs/tour.md), and every run prints its own.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

out=${TOUR_OUT:-tour}
config=${TOUR_CONFIG:-tiny}
clips=${TOUR_CLIPS:-600}
seconds_begun=$SECONDS
mkdir -p "$out"
: > "$out/stages.tsv"

stage() { # stage NAME "what it does" command...
  local name=$1 what=$2 begun=$SECONDS
  shift 2
  printf '\n== %s: %s\n' "$name" "$what"
  "$@"
  printf '%s\t%s\t%s\n' "$name" "$what" "$((SECONDS - begun))" >> "$out/stages.tsv"
  printf '== %s took %d s\n' "$name" "$((SECONDS - begun))"
}

rm -rf "$out/corpus" "$out/run" "$out/library" "$out"/*.parquet

stage corpus "render $clips clips of real music writing, with varied and noisy captions" \
  mulap corpus demo "$out/corpus" --clips "$clips" --seconds 6

stage pretrain "learn musicnn from scratch by masked words, masked audio and matching" \
  mulap pretrain "$config" --data "$out/corpus" --output "$out/run"

stage evaluate "held-out tracks: matching and retrieval, beside the untrained model" \
  bash -c "mulap evaluate '$out/run' --data '$out/corpus' --split test --json > '$out/evaluation.json'"

stage embed "frozen features of every clip, by the trained backbone and by a random one" \
  bash -c "mulap embed '$out/corpus/audio' --model '$out/run/best' --level track -o '$out/trained.parquet'
           mulap embed '$out/corpus/audio' --model random --level track -o '$out/random.parquet'"

stage use "tags, a sentence, and reasons for one clip, by mulap-small" \
  bash -c "mulap tag '$out/corpus/audio/demo-00000.flac' --top 5
           mulap caption '$out/corpus/audio/demo-00000.flac'
           mulap explain '$out/corpus/audio/demo-00000.flac' 'calm solo flute'"

stage report "frozen-feature scores, loss plot, tour/report.md" \
  python runs/tour_report.py "$out"

stage search "a library of all clips, and the clips that fit some words best" \
  bash -c "mulap index '$out/corpus/audio' --library '$out/library'
           mulap search 'calm solo flute' --library '$out/library' --top 5"

printf '\nThe tour took %d s. Read %s/report.md\n' "$((SECONDS - seconds_begun))" "$out"

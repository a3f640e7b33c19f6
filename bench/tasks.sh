#!/usr/bin/env bash
# The README's figures: SNIPS and Banking77 with the starter, whole runs, one after the other.
# Needs the task data in DATA (default ../shared/data/tasks); writes OUT/<task> (default build/bench). More arguments go to both runs,
# for instance --config bench/random_weights.yaml: the same shape and budget from random weights.
set -euo pipefail
data=${DATA:-../shared/data/tasks} out=${OUT:-build/bench}
export OMP_WAIT_POLICY=passive
mkdir -p "$out"
.venv/bin/luthier run "$data/snips/train.jsonl" --test "$data/snips/test.jsonl" --input text --output intent,slots \
  --constrain spans \
  --set train.swaps=2 --set train.epochs=2.5 --set train.lr=0.0015 --set train.weight_decay=0.1 --set train.weights=last "$@" \
  --out "$out/snips" --json > "$out/snips.json"
.venv/bin/luthier run "$data/banking77/train.jsonl" --test "$data/banking77/test.jsonl" --input text --output label \
  --set train.epochs=6 --set train.weights=last "$@" --out "$out/banking77" --json > "$out/banking77.json"

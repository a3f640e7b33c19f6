#!/usr/bin/env bash
# The course of the loss with and without sharing: E2E (several references to one input) with the starter, same seed, split and steps,
# `packed` and `tree`.
# Needs the task data in DATA (default ../shared/data/tasks); prints layout, seed, seconds, tokens/s and validation loss of each run in OUT.
set -euo pipefail
data=${DATA:-../shared/data/tasks} out=${OUT:-build/bench/course} steps=${STEPS:-40}
mkdir -p "$out"
printf 'data: {path: %s, input: mr, output: [ref]}\nsplit: {near_duplicate: 1}\ntrain: {steps: %s, validate_every: %s, lr: 1e-3}\n' "$data/e2e/dev.jsonl" "$steps" "$steps" > "$out/settings.yaml"
for seed in ${SEEDS:-0 1 2}; do
  for layout in packed tree; do
    .venv/bin/luthier train "$out/settings.yaml" --set "seed=$seed" --set "train.layout=$layout" --out "$out/$layout-$seed" 2> "$out/$layout-$seed.log" > /dev/null
    .venv/bin/python - "$out/$layout-$seed" "$layout" "$seed" <<'PYTHON'
import json, sys
end = next(json.loads(line) for line in open(f"{sys.argv[1]}/events.jsonl") if '"trained"' in line)
last = [json.loads(line) for line in open(f"{sys.argv[1]}/metrics.jsonl")][-1]
print(sys.argv[2], sys.argv[3], end["seconds"], "s", end["tokens_per_second"], "tokens/s", round(float.fromhex(last["validation_loss"]), 4))
PYTHON
  done
done

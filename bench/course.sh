#!/usr/bin/env bash
# The course of the loss with and without sharing: E2E (several references to one input) with the starter, same split and steps,
# `packed` and `tree`, with several seeds. What belongs to one input stands in one step of a tree, so the order of rows differs:
# the question is whether the layouts differ by more than seeds do, which bench/course.py says.
# Needs the task data in DATA (default ../shared/data/tasks); the runs are in OUT.
set -euo pipefail
data=${DATA:-../shared/data/tasks} out=${OUT:-build/bench/course} steps=${STEPS:-40} rows=${ROWS:-100000}
mkdir -p "$out"
head -n "$rows" "$data/e2e/dev.jsonl" > "$out/rows.jsonl"
printf 'data: {path: %s, input: mr, output: [ref]}\nsplit: {near_duplicate: 1}\ntrain: {steps: %s, validate_every: %s, lr: 1e-3}\n' "$out/rows.jsonl" "$steps" "$((steps / 4))" > "$out/settings.yaml"
for seed in ${SEEDS:-0 1 2}; do
  for layout in packed tree; do
    .venv/bin/luthier train "$out/settings.yaml" --set "seed=$seed" --set "train.layout=$layout" --out "$out/$layout-$seed" 2> "$out/$layout-$seed.log" > /dev/null
  done
done
.venv/bin/python bench/course.py "$out"

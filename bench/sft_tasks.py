"""The tasks of bench/sft.py as files, each made when first asked for, and the random weights that all candidates of a CPU's case begin with."""

import argparse
import json
import sys
from pathlib import Path

import torch
from sft_cases import CANDIDATES, Case
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import luthier.starter

HERE = Path(__file__).parent
STARTER = Path(luthier.starter.__file__).parent / "model"


class Tasks:
    """What is told to the candidates of every case."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder = given, folder
        self.tokens_a_row: dict[Case, float] = {}
        self._tokenizer = AutoTokenizer.from_pretrained(STARTER)

    def command(self, case: Case, name: str) -> list[str]:
        """Return what runs a candidate of a case."""
        program, *words = CANDIDATES[name]
        who = name.split()[0]
        python = sys.executable if who == "luthier" else self.given.peers[who]
        return [python, str(HERE / program), str(self._file(case)), *words]

    def _file(self, case: Case) -> Path:
        numbers = list(self.tokens_a_row)
        if case in self.tokens_a_row:
            return self.folder / f"{numbers.index(case)}.json"
        rows = case.rows(self.given.rows, self._tokenizer, self.given.steps + 1)
        self.tokens_a_row[case] = round(sum(len(row["input_ids"]) for row in rows) / len(rows), 1)
        path = self.folder / f"{len(numbers)}.json"
        settings = {"rows_a_step": case.rows_a_step, "steps": self.given.steps, "method": case.method, "micro_tokens": case.micro_tokens}  # fmt: skip
        model = {"device": self.given.device, "checkpointing": case.checkpointing, **self._model(case)}
        path.write_text(json.dumps({"rows": rows, **settings, **model}))
        return path

    def _model(self, case: Case) -> dict[str, object]:
        """Return the shape for a GPU to draw weights in; on a CPU a folder with weights, since releases of transformers draw differently."""
        config = case.config(self.given.quick)
        if config is None or self.given.device != "cpu":
            return {"config": config, "folder": str(STARTER)}
        folder = self.folder / case.model
        if not folder.exists():
            torch.manual_seed(0)
            shape = AutoConfig.for_model(str(config.pop("model_type")), **config)
            AutoModelForCausalLM.from_config(shape).bfloat16().save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)
        return {"config": None, "folder": str(folder)}

"""Hand the tuned model out as plain transformers or PEFT files, proven to be the model that was trained."""

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from luthier.config.load import load
from luthier.core.errors import ProofFailed, RunFolderError, SettingsError
from luthier.core.rundir import open_run, write_atomically, write_json
from luthier.core.types import JsonObject, Message, Text
from luthier.data.problems import RowProblem
from luthier.models import parity
from luthier.models.card import CardFacts, card
from luthier.models.export import Package
from luthier.models.export import export as write_package
from luthier.models.license import license_of
from luthier.recipes.answer import answer_budget
from luthier.recipes.job import Job
from luthier.recipes.verdict_file import read_verdict
from luthier.recipes.voice import Voice
from luthier.verdict.questions import questions

Format = Literal["adapter", "merged"]
_SAMPLES, _ROWS_TRIED, _TEXT_LENGTH = 8, 64, 200
_TEXT_BUDGET = 256


def export(path: Path, format: str, to: Path | None, voice: Voice) -> tuple[Path, JsonObject]:
    """Export a trained run as `adapter` or `merged` to `to`; return the folder and its certificate."""
    folder = open_run(path)
    if not folder.done("train"):
        raise RunFolderError(f"{path} has not finished training; go on with: luthier resume {path}")
    job = Job(folder, load([folder.config]), voice)
    if format not in ("adapter", "merged"):
        raise SettingsError(f"--format is {format!r}; expected adapter, merged or promptfoo.")
    out = to or folder.package
    with folder.held():
        certificate = _export(job, "adapter" if format == "adapter" else "merged", out)
    return out, certificate


def export_stage(job: Job) -> None:
    """Write `package/` in the format of the settings; by default what the method trained."""
    if job.settings.export.format is None:
        job.resolve({"export.format": "adapter" if job.settings.train.method == "lora" else "merged"})
    assert job.settings.export.format
    _export(job, job.settings.export.format, job.run.package)


def write_card(job: Job) -> None:
    """Write the card anew, in the run and in its package, so that it registers what the verdict says now."""
    assert job.settings.export.format
    text = _card(job, job.settings.export.format, None if job.settings.model.init else job.base_name)
    for path in (job.run.card, job.run.package / "README.md"):
        if path.exists():
            write_atomically(path, text.encode())


def _export(job: Job, format: Format, out: Path) -> JsonObject:
    model = job.tuned_model()
    base = None if job.settings.model.init else job.base_name
    text = _card(job, format, base)
    if job.settings.generate.max_new_tokens is None:
        job.resolve(
            {
                "generate.max_new_tokens": _TEXT_BUDGET
                if job.settings.train.objective == "text"
                else max(1, answer_budget(job))
            }
        )
    assert job.settings.generate.max_new_tokens
    package = Package(
        format=format, base=base, card=text, stop_tokens=tuple(job.renderer.stop_tokens), max_new_tokens=job.settings.generate.max_new_tokens,
        revision=job.folder.revision, temperature=job.settings.generate.temperature, top_p=job.settings.generate.top_p,
    )  # fmt: skip
    with job.voice.bar("export", None):
        write_package(model, job.tokenizer, out, package)
        certificate = _certified(job, model, out, format, base)
    write_json(out / "certificate.json", certificate)
    write_atomically(job.run.card, text.encode())
    job.voice.say(
        f"package: {out} ({format}); in a fresh process its logits differ by at most "
        f"{certificate['relative_logit_difference']:.1e} of the largest (bound {certificate['bound']:.0e})"
    )
    return certificate


def _certified(job: Job, model: PreTrainedModel | PeftModel, out: Path, format: Format, base: str | None) -> JsonObject:
    """Return the certificate; a package without one is taken away, so that nobody serves it."""
    try:
        return _certify(job, model, out, format, base)
    except ProofFailed:
        shutil.rmtree(out)
        raise


def _certify(job: Job, model: PreTrainedModel | PeftModel, out: Path, format: Format, base: str | None) -> JsonObject:
    samples = _samples(job)
    if not samples:
        raise ProofFailed("there is no row from which a prompt could be made to prove the package with.")
    dtype = job.dtype
    if not isinstance(model, PeftModel):
        # Weights that no adapter was added to are the same numbers in float32, where rounding hides nothing.
        model, dtype = copy.deepcopy(model).float(), torch.float32
    with tempfile.TemporaryDirectory() as folder:
        reference = parity.capture(model, samples, Path(folder), base, job.folder.revision)
        return parity.certify(out, reference, parity.bound_for(format, dtype), torch.get_num_threads())


def _samples(job: Job) -> list[parity.Sample]:
    """Prompts of held-out rows; where rows are plain text, their beginnings as a user's words, or as they are."""
    rows = (job.rows("test") or job.rows("validation") or job.rows("train"))[:_ROWS_TRIED]
    texts = [row.content.text[:_TEXT_LENGTH] for row in rows if isinstance(row.content, Text)]
    if job.tokenizer.chat_template is None:
        return [
            parity.Sample({"text": text}, tuple(job.tokenizer.encode(text, add_special_tokens=False)))
            for text in texts[:_SAMPLES]
        ]
    asked = [(question.messages, question.tools) for question in questions(rows)]
    asked = asked or [((Message("user", text),), ()) for text in texts]
    samples: list[parity.Sample] = []
    for messages, tools in asked:
        try:
            samples.append(
                parity.Sample(job.renderer.request(messages, tools), tuple(job.renderer.prompt(messages, tools)))
            )
        except RowProblem:  # other programs would read this one in another way, so it proves nothing
            continue
        if len(samples) == _SAMPLES:
            break
    return samples


def _limits(retrieved: int) -> list[str]:
    if not retrieved:
        return []
    return [
        f"It was trained with {retrieved} retrieved passages before each question, and is to be asked with as many."
    ]


def _card(job: Job, format: Format, base: str | None) -> str:
    train = job.settings.train
    verdict: JsonObject = read_verdict(job.run) if job.run.verdict.exists() else {"data": {}, "arms": {}, "grader": ""}
    settings: JsonObject = {
        key: getattr(train, key)
        for key in ("objective", "method", "lr", "epochs", "steps", "batch_tokens", "schedule", "max_length")
    }
    return card(
        CardFacts(
            name=job.run.path.name,
            base=job.folder.name if base else None,
            format=format,
            method=str(train.method),
            verdict=verdict,
            settings=settings,
            license=license_of(job.folder),
            limits=_limits(train.retrieved),
        )
    )

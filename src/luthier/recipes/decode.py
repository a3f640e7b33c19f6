"""How the arms of a run decode: freely, held to a constraint, or by scoring the labels instead of writing them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from luthier.config.settings import GenerateSettings
from luthier.core.errors import DataError, SettingsError
from luthier.core.journal import entries
from luthier.core.types import Completion, Conversation, Message, Prompt, Row
from luthier.data.copied import learned
from luthier.generate.constrain import (
    ANY_OBJECT,
    Choice,
    Constrainer,
    Grammar,
    Held,
    JsonSchema,
    Matcher,
    Pattern,
    Spans,
    refuse_unusable,
)
from luthier.generate.engine import Engine
from luthier.generate.labels import Label, LabelScorer
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.recipes.job import Job
from luthier.verdict.questions import questions

LABELS, SPANS = "labels", "spans"
_PATTERN = "pattern:"
_NO_MODEL_HERE = {"classical", "endpoint"}


class Decoder(Protocol):
    """Answers batches of prompts that it deals itself."""

    def batches(self, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
        """Deal prompts into batches; the same prompts always make the same batches."""
        ...

    def complete_batch(self, batch: Sequence[Prompt]) -> list[Completion]:
        """Answer one batch, in its order."""
        ...


def decoder(job: Job, weights: Literal["base", "tuned"]) -> Decoder:
    """Make what answers with the base or the tuned weights, by the run's own settings."""
    settings = job.settings.generate
    refuse_contradictions(settings)
    if settings.decode == "score":
        return LabelScorer(engine(job, weights), [_label(job, text) for text in label_texts(job)])
    if settings.constrain is None:
        return engine(job, weights)
    grammar_of = _grammars(job, _constrainer(job), settings.constrain)
    return engine(job, weights, matcher=lambda prompt: grammar_of(prompt.question).start())


def conformity(job: Job) -> Callable[[str, str], bool]:
    """Return what tells whether an answer to a question has the whole form that `generate.constrain` asks for."""
    assert job.settings.generate.constrain
    constrainer = _constrainer(job)
    grammar_of = _grammars(job, constrainer, job.settings.generate.constrain)
    return lambda question, answer: constrainer.fits(grammar_of(question), answer)


def engine(
    job: Job,
    weights: Literal["base", "tuned"],
    *,
    budget: int | None = None,
    matcher: Callable[[Prompt], Matcher] | None = None,
) -> Engine:
    """Make the engine that decodes with the base or the tuned weights, held to what a prompt's matcher allows."""
    model = job.base_model().eval() if weights == "base" else job.tuned_model()
    settings = job.settings.generate
    max_new_tokens = budget or settings.max_new_tokens
    assert max_new_tokens
    pad = job.tokenizer.pad_token_id
    return Engine(
        model, job.renderer.stop_tokens, pad if isinstance(pad, int) else 0, unrender=job.renderer.unrender,
        max_new_tokens=max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=job.settings.seed,
        batch_size=settings.batch_size, matcher=matcher,
    )  # fmt: skip


def words(settings: GenerateSettings) -> str:
    """Say behind an arm's description how it decodes, nothing where it decodes freely."""
    if settings.decode == "score":
        return "; answers with the label of the training rows that it finds most probable, scored exactly, not written"
    return "" if settings.constrain is None else f"; its answers are held to {settings.constrain}"


def refuse_contradictions(settings: GenerateSettings) -> None:
    """Raise SettingsError where labels are scored, and something else is asked at the same time."""
    if settings.decode == "score" and settings.temperature > 0:
        raise SettingsError("generate.decode is score, which draws nothing; leave generate.temperature at 0.")
    if settings.decode == "score" and settings.constrain not in (None, "labels"):
        raise SettingsError(
            f"generate.decode is score, which answers with labels, and generate.constrain is {settings.constrain!r}. "
            "Leave one of them out."
        )


def refuse_unusable_form(settings: GenerateSettings) -> None:
    """Raise SettingsError for a form that answers cannot be held to, as far as the settings alone tell."""
    if settings.constrain not in (None, LABELS, SPANS):
        refuse_unusable(_given_form(str(settings.constrain)))


def refuse_form_of_other_rows(job: Job) -> None:
    """Raise a UserError where the training rows, or this model's tokenizer, do not go with `generate.constrain`."""
    if job.settings.generate.constrain is not None:
        _grammars(job, _constrainer(job), job.settings.generate.constrain)


def forget_other_decoding(job: Job) -> None:
    """Take away answers that were decoded in another way than the settings say now."""
    now = (job.settings.generate.constrain, job.settings.generate.decode)
    before = (None, "generate")
    for entry in entries(job.run.events):
        if entry["event"] == "decoding":
            before = (entry["constrain"], entry["decode"])
    if now == before:
        return
    for path in job.run.answers.glob("*"):
        if path.name.partition(".")[0] not in _NO_MODEL_HERE:
            path.unlink()
    job.run.event("decoding", constrain=now[0], decode=now[1])
    job.voice.say(f"answers{words(job.settings.generate).removeprefix(';') or ' are decoded freely'}")


def constraint(job: Job, text: str) -> Held:
    """Read `labels`, `json`, `pattern:REGEX` or the path of a JSON schema; `spans` is another for each question."""
    return Choice(tuple(label_texts(job))) if text == LABELS else _given_form(text)


def _given_form(text: str) -> Held:
    if text == "json":
        return ANY_OBJECT
    if text.startswith(_PATTERN):
        return Pattern(text.removeprefix(_PATTERN))
    file = Path(text)
    if not file.is_file():
        raise SettingsError(
            f"generate.constrain: there is no file {text}; expected labels, json, spans, pattern:REGEX or the path of a JSON schema."
        )
    try:
        schema = parsed(file.read_text(encoding="utf-8"))
    except (InvalidJson, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingsError(f"generate.constrain: {file} is not JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise SettingsError(f"generate.constrain: {file} is no JSON schema: expected an object.")
    return JsonSchema(schema)


def label_texts(job: Job) -> list[str]:
    """Return the different answers of the training rows, sorted; raise DataError where there are none."""
    texts = sorted({question.wanted for question in questions(job.rows("train"))} - {""})
    if not texts:
        raise DataError("the training rows have no answers, so there are no labels to answer with.")
    return texts


def _constrainer(job: Job) -> Constrainer:
    return Constrainer(job.tokenizer, job.renderer.stop_tokens, len(job.tokenizer), job.renderer.template.lead)


def _grammars(job: Job, constrainer: Constrainer, text: str) -> Callable[[str], Grammar]:
    """Return what makes the grammar of a question's answers: one for all, or of spans of the question."""
    if text == SPANS:
        extraction = learned((question.text, question.wanted) for question in questions(job.rows("train")))
        job.voice.say(f"  held to spans of the question: {', '.join(extraction.copied())}")
        return lambda question: constrainer.grammar(Spans(extraction, question))
    grammar = constrainer.grammar(constraint(job, text))
    return lambda _: grammar


def _label(job: Job, text: str) -> Label:
    """Return a label with its tokens as trained behind a question."""
    row = Row("label", "", 0, 0, Conversation((Message("user", "?"), Message("assistant", text))))
    sequence = job.renderer.render(row, "sft")[-1]
    return Label(text, tuple(sequence.tokens_L[sequence.weight_L > 0].tolist()))

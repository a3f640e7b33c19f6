"""Answers that say nothing of their own: refusals, phrases of other models, copied prompts, loops, cut ends.

What most rows do alike is taken for the task: answers that repeat the prompt in a copying task, prose
without full stops, one answer for very many questions where answers are labels.

What it cannot see: refusals in other words or other languages than English, an answer cut at the end
of a sentence, loops of long passages with small changes.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from luthier.core.types import Content, Conversation, Finding, Preference, Repair, Row, Text
from luthier.data.checking import Context, Dimension
from luthier.data.endings import breaks_off, ends_open, is_prose, repeated, unclosed
from luthier.data.gathered import MOST_EXAMPLES, Fault, Gathered, shown
from luthier.data.normal import answer, question
from luthier.data.stock_phrases import stock_phrases

_MOST_OPEN = 0.05
_LEAST_PROSE = 20
_TASK_SHARE = 0.2
_FREE_TEXT_SPACES = 4
_LEAST_SAME = 10
_WARNED_SHARE = 0.05
_MOST_NAMED = 3


class Check:
    """Find stock phrases, copied prompts, loops, cut answers, and one answer given to very many questions."""

    dimension: ClassVar[Dimension] = "valid"
    effect: ClassVar[str] = "the model learns to refuse, to repeat itself, to stop within a sentence or to parrot"
    blind: ClassVar[str] = "refusals in other words and languages, answers cut at the end of a sentence"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found = Gathered()
        self._num_rows = self._num_prose = 0
        # Of free-text answers: where they stand, and hashes that are compared within this look only.
        self._positions, self._answers, self._questions = array("q"), array("q"), array("q")

    def see(self, position: int, row: Row) -> Iterable[Finding]:
        """Look at every answer that is trained; its end and its likeness to the prompt count for the last."""
        self._num_rows += 1
        seen: dict[str, str] = {}
        for text in _trained(row.content):
            if not isinstance(row.content, Text):
                for kind, words in stock_phrases(text).items():
                    seen.setdefault(kind, words)
            circle = repeated(text)
            if circle is not None:
                seen.setdefault("repeats-itself", circle)
        last = answer(row)
        if last and isinstance(row.content, Conversation | Preference):
            self._look_at_last(position, row, last, seen)
        for kind, words in seen.items():
            proposed = None if kind in _LOOK_ONLY else Repair(row.id, "set aside", safe=False)
            wanted = self._found.count(kind) < MOST_EXAMPLES
            self._found.add(kind, row, shown(words) if wanted else "", proposed)
        return ()

    def end(self) -> Iterator[Finding]:
        """Report one finding a kind, and one for each answer that very many questions share."""
        faults = dict(_FAULTS)
        num_open = self._found.count("cut-answer") + self._found.count("open-end")
        if self._num_prose < _LEAST_PROSE or num_open > _MOST_OPEN * self._num_prose:
            del faults["cut-answer"], faults["open-end"]
        if self._found.count("copied-prompt") > _TASK_SHARE * self._num_rows:
            faults["copied-prompt"] = _COPYING_TASK
        yield from self._found.findings("boilerplate", faults)
        yield from self._same_answers()

    def _look_at_last(self, position: int, row: Row, last: str, seen: dict[str, str]) -> None:
        asked = question(row)
        if copies(last, asked):
            seen["copied-prompt"] = last
        opened = unclosed(last)
        if opened is not None:
            seen["unclosed-answer"] = opened
        elif is_prose(last):
            self._num_prose += 1
            kind = "cut-answer" if breaks_off(last) else "open-end" if ends_open(last) else None
            if kind is not None:
                seen[kind] = "..." + last.rstrip()[-30:]
        if last.count(" ") >= _FREE_TEXT_SPACES:
            self._positions.append(position)
            self._answers.append(hash(last))
            self._questions.append(hash(asked))

    def _same_answers(self) -> Iterator[Finding]:
        keys_N = np.array(self._answers, dtype=np.int64)
        distinct_K, first_K, count_K = np.unique(keys_N, return_index=True, return_counts=True)
        if len(distinct_K) < 0.3 * len(keys_N):  # few answers for all questions: labels, or short replies of a form
            return
        hot = np.flatnonzero(count_K >= max(_LEAST_SAME, 0.01 * len(keys_N)))
        for which in hot[np.argsort(first_K[hot])]:
            finding = self._same_answer(np.flatnonzero(keys_N == distinct_K[which]).tolist(), len(keys_N))
            if finding is not None:
                yield finding

    def _same_answer(self, places: list[int], total: int) -> Finding | None:
        num_questions = len({self._questions[place] for place in places})
        if num_questions < _LEAST_SAME:  # copies of rows, which are another check's
            return None
        found = [self._context.place_at(self._positions[place]) for place in places]
        said = answer(self._context.row_at(self._positions[places[0]]))
        often = len(places) >= _WARNED_SHARE * total
        return Finding(
            check="boilerplate",
            kind="same-answer",
            severity="warning" if often else "info",
            confidence=0.8 if often else 0.5,
            rows=tuple(place.id for place in found),
            detail=f"{len(places):,} rows answer {num_questions:,} different questions with {shown(said)}: "
            f"{', '.join(map(str, found[:_MOST_NAMED]))} and {len(places) - _MOST_NAMED:,} more.",
            fix="Look whether the answer fits all of them; a model falls back on what it saw most often.",
        )


def copies(reply: str, asked: str) -> bool:
    """Tell whether an answer of four words or more is the prompt again, or begins with all of it."""
    if not _plain(reply[:80]).startswith(
        _plain(asked[:80])[:16]
    ):  # nearly always, and a long text is not folded for it
        return False
    said, prompt = _plain(reply), _plain(asked)
    return prompt.count(" ") >= 3 and said.startswith(prompt)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _trained(content: Content) -> Iterator[str]:
    match content:
        case Text(text):
            yield text
        case Conversation(messages=messages) | Preference(chosen=messages):
            yield from (turn.content for turn in messages if turn.role == "assistant" and turn.weight and turn.content)


_LOOK_ONLY = frozenset(["apology", "copied-prompt", "open-end"])
_FAULTS: dict[str, Fault] = {
    "speaks-as-ai": Fault(
        "warning",
        0.9,
        "speak in the words of an AI or a language model",
        "Write the answer anew in your own voice, or set the row aside; keep it if that is who your model is.",
    ),
    "refusal": Fault(
        "warning",
        0.8,
        "refuse to answer",
        "Keep those that you want to be refused and set the others aside: a few refusals teach a model many.",
    ),
    "template-marks": Fault(
        "warning",
        0.9,
        "hold marks of a chat format in an answer",
        "Cut the answer there, or read the file in its right format: the marks would be trained as text.",
    ),
    "unfilled-template": Fault(
        "warning",
        0.8,
        "hold a template's place that nobody filled in",
        "Fill the place in or set the row aside, unless your program fills it in what the model writes.",
    ),
    "repeats-itself": Fault(
        "warning",
        0.85,
        "say the same few words again and again",
        "Set the row aside; a model learns loops quickly and leaves them slowly.",
    ),
    "unclosed-answer": Fault(
        "warning",
        0.85,
        "have an answer that ends with something open",
        "Get the whole answer again, or set the row aside; look for a limit on length where it was made.",
    ),
    "cut-answer": Fault(
        "warning",
        0.8,
        "have an answer that breaks off, where nearly all others end with a full stop",
        "Get the whole answer again, or set the row aside; look for a limit on length where it was made.",
    ),
    "open-end": Fault(
        "info",
        0.5,
        "have an answer without a full stop, where nearly all others end with one",
        "Look whether the answer is whole.",
    ),
    "copied-prompt": Fault(
        "warning", 0.8, "repeat the prompt in the answer", "Cut the prompt out of the answer, or drop the row."
    ),
    "apology": Fault("info", 0.7, "begin the answer with an apology", "Look whether that is the voice that you want."),
}
_COPYING_TASK = Fault(
    "info",
    0.5,
    "repeat the prompt in the answer, so many that it seems to be the task",
    "Nothing needs to be done if copying is the task.",
)

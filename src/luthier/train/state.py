"""What a training remembers: the state in a checkpoint, the line in the journal, and what both depend on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from luthier.core.errors import RunFolderError
from luthier.core.types import JsonObject, JsonValue


class Validation(NamedTuple):
    """How the model does on rows that it does not train on.

    `loss` is the mean negative log-likelihood of their trained tokens in nats, `right` the share of rows that
    greedy decoding would answer to the letter.
    """

    loss: float
    right: float


@dataclass
class State:
    """All that a checkpoint holds beside tensors; `worse` counts the validations since the best one."""

    step: int = 0
    tokens: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    best_right: float = -1.0
    worse: int = 0
    seconds: float = 0.0

    def note_validation(self, now: Validation, *, by_answers: bool) -> None:
        """Remember the best validation, by right answers first or by loss alone, and how many have not been better since."""
        better = now.loss < self.best_loss
        if by_answers and now.right != self.best_right:
            better = now.right > self.best_right
        if better:
            self.best_loss, self.best_right, self.best_step, self.worse = now.loss, now.right, self.step, 0
        else:
            self.worse += 1

    def as_json(self) -> JsonObject:
        """Return the state for a file; the loss as hex, which is exact."""
        best_loss = None if self.best_loss == float("inf") else self.best_loss.hex()
        return {
            **vars(self),
            "best_loss": best_loss,
            "best_right": self.best_right.hex(),
            "seconds": round(self.seconds, 3),
        }

    @staticmethod
    def from_json(state: JsonObject) -> "State":
        """Return the state that `as_json` wrote; other keys are left alone."""
        known = {key: state[key] for key in vars(State())}
        best_loss = known["best_loss"]
        known["best_loss"] = float("inf") if best_loss is None else float.fromhex(str(best_loss))
        known["best_right"] = float.fromhex(str(known["best_right"]))
        return State(**known)  # type: ignore[arg-type]  # written from a record of these fields


@dataclass
class Entry:
    """One line of the metrics journal: everything in it repeats to the bit.

    `tokens` are the rows' own, `processed` those that the model computed: padding counts, and what rows share counts once.
    """

    step: int
    loss: float
    tokens: int
    processed: int
    trained: int
    lr: float
    norm: float
    validation: Validation | None = None

    def as_json(self) -> JsonObject:
        """Return the line, floats as hex."""
        line: JsonObject = {
            "step": self.step, "loss": self.loss.hex(), "tokens": self.tokens, "processed": self.processed, "trained": self.trained,
            "lr": self.lr.hex(), "norm": self.norm.hex(),
        }  # fmt: skip
        if self.validation is not None:
            line |= {"validation_loss": self.validation.loss.hex(), "validation_right": self.validation.right.hex()}
        return line


def refuse_drift(saved: JsonValue, now: JsonObject) -> None:
    """Raise RunFolderError that lists every field, by dotted key, in which two fingerprints differ."""
    changed = list(_differences("", saved, now))
    if changed:
        raise RunFolderError(
            "this run cannot go on exactly where it stopped, because something that it depends on has changed:\n  "
            + "\n  ".join(changed)
            + "\nRestore it, or start a new run."
        )


def _differences(key: str, then: JsonValue, now: JsonValue) -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted({*then, *now}):
            yield from _differences(f"{key}.{name}" if key else name, then.get(name), now.get(name))
    elif then != now:
        yield f"{key}: {then!r} then, {now!r} now"

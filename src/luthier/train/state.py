"""What a training remembers: the state in a checkpoint, the line in the journal, and what both depend on."""

from collections.abc import Iterator
from dataclasses import dataclass

from luthier.core.errors import RunFolderError
from luthier.core.types import JsonObject, JsonValue


@dataclass
class State:
    """All that a checkpoint holds beside tensors; `worse` counts the validations since the best one."""

    step: int = 0
    tokens: int = 0
    best_step: int = 0
    best_loss: float = float("inf")
    worse: int = 0
    seconds: float = 0.0

    def note_validation(self, loss: float) -> None:
        """Remember the best validation and how many have not been better since."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
        else:
            self.worse += 1

    def as_json(self) -> JsonObject:
        """Return the state for a file; the loss as hex, which is exact."""
        best_loss = None if self.best_loss == float("inf") else self.best_loss.hex()
        return {**vars(self), "best_loss": best_loss, "seconds": round(self.seconds, 3)}

    @staticmethod
    def from_json(state: JsonObject) -> "State":
        """Return the state that `as_json` wrote; other keys are left alone."""
        known = {key: state[key] for key in vars(State())}
        best_loss = known["best_loss"]
        known["best_loss"] = float("inf") if best_loss is None else float.fromhex(str(best_loss))
        return State(**known)  # type: ignore[arg-type]


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
    validation_loss: float | None = None

    def as_json(self) -> JsonObject:
        """Return the line, floats as hex."""
        line: JsonObject = {
            "step": self.step, "loss": self.loss.hex(), "tokens": self.tokens, "processed": self.processed, "trained": self.trained,
            "lr": self.lr.hex(), "norm": self.norm.hex(),
        }  # fmt: skip
        if self.validation_loss is not None:
            line["validation_loss"] = self.validation_loss.hex()
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

"""House rules: does the answer say what it must, and nothing that it must not?

The rules stand in a YAML file:

    rules:
      - name: greets
        must_say: [hello, good day]          # one of these
      - name: no promises
        must_not_say: [guarantee, "100 %"]   # none of these
      - name: asks for the order number
        must_match: "order number|\\\\b[A-Z]{2}\\\\d{6}\\\\b"
        when: refund                         # only where the question says so

Phrases are compared without case and as whole words; `must_match` and `must_not_match` are regular expressions. What a
rule does not name it does not see: `no promises` lets "you can count on it" pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from luthier.config.load import read_yaml
from luthier.core.types import Grade, JsonValue
from luthier.graders.measures.phrases import Phrases
from luthier.graders.measures.rules import Rule, rules_from


@dataclass(frozen=True)
class Grader:
    """1 if the answer keeps every rule that concerns its question, else 0."""

    meaning = "share of answers that keep every rule of the policy"

    rules: Path
    """The YAML file with the rules."""

    def __post_init__(self) -> None:
        """Read the rules; raise SettingsError that lists everything wrong with them."""
        assert self._rules

    @property
    def needs_answer(self) -> bool:
        """The wanted text is not looked at."""
        return False

    def grade(self, prompt: str, completion: str, answer: str) -> Grade:
        """Grade one completion by the rules; the marks hold for each rule that applies whether it was kept."""
        asked, said = Phrases(prompt), Phrases(completion)
        kept: dict[str, JsonValue] = {
            rule.name: rule.kept(completion, said) for rule in self._rules if rule.applies(asked)
        }
        return Grade(float(all(kept.values())), {"kept": kept})

    def metrics(self, grades: Sequence[Grade]) -> dict[str, JsonValue]:
        """Return the share of answers that keep all rules, and for each rule how often it applied and was broken."""
        rules: dict[str, JsonValue] = {}
        for rule in self._rules:
            verdicts = [kept[rule.name] for kept in map(_kept, grades) if rule.name in kept]
            rules[rule.name] = {"applied": len(verdicts), "broken": verdicts.count(False)}
        return {"kept_all": sum(grade.score for grade in grades) / len(grades), "rules": rules}

    @cached_property
    def _rules(self) -> list[Rule]:
        return rules_from(read_yaml(self.rules), str(self.rules))


def _kept(grade: Grade) -> dict[str, JsonValue]:
    kept = grade.marks["kept"]
    assert isinstance(kept, dict)
    return kept

"""Rules about what an answer must and must not say, as they stand in a policy file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.core.errors import SettingsError, nearest
from luthier.core.types import JsonObject, JsonValue
from luthier.graders.measures.patterns import Found, compiled, search
from luthier.graders.measures.phrases import Phrases

if TYPE_CHECKING:
    import regex

_DEMANDS = ("must_say", "must_not_say", "must_match", "must_not_match")
_KEYS = ("name", *_DEMANDS, "when")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; demands that the file leaves out are empty and always kept."""

    name: str
    must_say: tuple[str, ...]
    must_not_say: tuple[str, ...]
    must_match: "regex.Pattern[str] | None"
    must_not_match: "regex.Pattern[str] | None"
    when: tuple[str, ...]

    def applies(self, prompt: Phrases) -> bool:
        """Tell whether the rule concerns this question: it says one of the `when` phrases, or there are none."""
        return not self.when or any(prompt.have(phrase) for phrase in self.when)

    def kept(self, completion: str, said: Phrases) -> bool:
        """Tell whether an answer keeps the rule; a search that is given up counts against the answer."""
        return (
            (not self.must_say or any(said.have(phrase) for phrase in self.must_say))
            and not any(said.have(phrase) for phrase in self.must_not_say)
            and (self.must_match is None or search(self.must_match, completion)[0] is Found.YES)
            and (self.must_not_match is None or search(self.must_not_match, completion)[0] is Found.NO)
        )


def rules_from(content: JsonValue, where: str) -> list[Rule]:
    """Read the rules of a policy file; raise SettingsError that lists everything wrong with them."""
    entries = content.get("rules") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{where}: expected `rules:` with a list of rules, found {_shown(content)}.")
    problems: list[str] = []
    rules = [_rule(entry, f"rule {number}", problems) for number, entry in enumerate(entries, start=1)]
    names = [rule.name for rule in rules if rule]
    problems += [
        f"the name {name!r} is given twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise SettingsError(f"{where}: the policy cannot be used:\n  " + "\n  ".join(problems))
    return [rule for rule in rules if rule]


def _rule(entry: JsonValue, where: str, problems: list[str]) -> Rule | None:
    if not isinstance(entry, dict):
        problems.append(f"{where}: expected a mapping with `name` and a demand, found {_shown(entry)}")
        return None
    name = entry.get("name")
    where = f"{where} ({name})" if isinstance(name, str) else where
    before = len(problems)
    if not isinstance(name, str) or not name:
        problems.append(f"{where}: `name` is missing")
    problems += [f"{where}: there is no {key!r}.{nearest(key, _KEYS)}" for key in entry if key not in _KEYS]
    if not any(key in entry for key in _DEMANDS):
        problems.append(f"{where}: it demands nothing; give one of {', '.join(_DEMANDS)}")
    phrases = {key: _phrases(entry, key, where, problems) for key in ("must_say", "must_not_say", "when")}
    patterns = {key: _pattern(entry, key, where, problems) for key in ("must_match", "must_not_match")}
    if len(problems) > before:
        return None
    return Rule(
        str(name), phrases["must_say"], phrases["must_not_say"], patterns["must_match"], patterns["must_not_match"],
        phrases["when"],
    )  # fmt: skip


def _phrases(entry: JsonObject, key: str, where: str, problems: list[str]) -> tuple[str, ...]:
    value = entry.get(key, [])
    phrases = value if isinstance(value, list) else [value]
    if not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
        problems.append(f"{where}: `{key}` must be a text or a list of texts, found {_shown(value)}; quote numbers")
    return tuple(str(phrase) for phrase in phrases)


def _pattern(entry: JsonObject, key: str, where: str, problems: list[str]) -> "regex.Pattern[str] | None":
    value = entry.get(key)
    if value is None:
        return None
    try:
        return compiled(str(value), f"{where}: {key}")
    except SettingsError as error:
        problems.append(str(error))
        return None


def _shown(value: JsonValue) -> str:
    return repr(value)[:80]

"""Phrases that show where an answer comes from: another model, a template, a chat format.

English above all; the sentence by which a model speaks of itself also in German, French and Spanish.
"""

import re

KINDS = ("speaks-as-ai", "refusal", "template-marks", "unfilled-template", "apology")


def stock_phrases(answer: str) -> dict[str, str]:
    """Return the kinds of stock phrase in an answer, each with the words that show it."""
    lower = answer.lower().replace("\u2019", "'")
    found: dict[str, str] = {}
    if any(mark in lower for mark in _AI_MARKS):
        _note(found, "speaks-as-ai", _SPEAKS_AS_AI.search(lower))
    head = lower[:_HEAD]
    if any(mark in head for mark in _REFUSAL_MARKS):
        _note(found, "refusal", _REFUSAL.search(head))
        if "refusal" not in found:
            _note(found, "apology", _APOLOGY.match(head))
    if any(mark in answer for mark in _BRACKETS):
        _note(found, "template-marks", _TEMPLATE_MARKS.search(answer))
        _note(found, "unfilled-template", _UNFILLED.search(answer))
    return found


def _note(found: dict[str, str], kind: str, match: re.Match[str] | None) -> None:
    if match is not None:
        found[kind] = match[0]


_HEAD = 300
_AI_MARKS = (
    "an ai", "language model", "knowledge cutoff", "training data", "sprachmodell", "mod\u00e8le de langage",
    "modelo de lenguaje",
)  # fmt: skip
_SPEAKS_AS_AI = re.compile(
    r"\b(?:as|i'm|i am|being|since i'm|because i am) (?:just |only )?an? (?:ai|artificial intelligence|large language|language)"
    r"(?: (?:language )?(?:model|assistant|chatbot|system|program))?\b"
    r"|\bmy (?:knowledge cutoff|training data)\b|\bals (?:ein )?(?:ki-)?sprachmodell\b"
    r"|\ben tant que mod\u00e8le de langage\b|\bcomo modelo de lenguaje\b"
)
_REFUSAL_MARKS = ("sorry", "apolog", "can't", "cannot", "unable", "not able", "decline", "won't")
_REFUSAL = re.compile(
    r"\bi(?:'m| am)?(?: really| very| truly)? ?(?:sorry,?|afraid)?,? ?(?:but )?(?:that )?(?:i |i'm |i am |we )?(?:just |simply )?"
    r"(?:cannot|can't|can not|unable to|not able to|won't be able to|won't|will not|must decline to|have to decline to)"
    r" (?:\w+ )?(?:assist|help|fulfil+|comply|provide|answer|discuss|engage|create|generate|write|participate|support|do)"
    r"(?: you)?(?: with)?(?: in)? (?:that|this|your|such|it|those|these|any)\b"
)
_APOLOGY = re.compile(
    r"\W*(?:i(?:'m| am) (?:so |very |really |terribly )?sorry|sorry|i apologi[sz]e|(?:my|our) apologies|apologies)\b"
)
_BRACKETS = ("<|", "[INST", "[/INST", "### ", "<s>", "</s>", "{{", "[", "<insert", "Lorem")
_TEMPLATE_MARKS = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|end|user|assistant|system)\|>|\[/?INST\]|<</?SYS>>|</?s>"
    r"|^### (?:Instruction|Response|Input|Human|Assistant):?",
    re.MULTILINE,
)
_UNFILLED = re.compile(
    r"\{\{ ?[A-Za-z_][\w .]{0,30} ?\}\}|\[(?:[Ii]nsert|INSERT|[Yy]our|YOUR|[Cc]ompany|COMPANY|[Cc]ustomer|[Rr]ecipient)(?:['\u2019]s)?[ _]"
    r"[^\]\n]{1,40}\]|<insert [^>\n]{1,40}>|Lorem ipsum dolor"
)

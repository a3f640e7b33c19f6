"""Prose in figures: sentences, words, and the habits of a writer's voice.

Function words and punctuation are what writers choose without thinking, so they tell voices apart whatever the topic
(Mosteller and Wallace 1964; Burrows 2002, doi 10.1093/llc/17.3.267). Readability is Flesch's formula (1948), syllables
counted as groups of vowels; both it and the function words are English.
"""

import math
import re

_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"')\]\u2019\u201d]*\s+|\n+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouy]+")
_MARKS = {
    ",": "commas", ";:": "colons", "!": "exclamation_marks", "?": "question_marks", "-\u2013\u2014": "dashes",
    "()[]": "brackets", "\"\u201c\u201d": "quotes", "\u2026": "ellipses",
}  # fmt: skip
_GROUPS = {
    "first_person": "i i'm i'd i'll i've me my mine myself we we're we'll we've us our ours",
    "second_person": "you you're you'll you've you'd your yours",
    "third_person": "he she it it's they them his her its their",
    "articles": "a an the",
    "negations": "no not never none nothing don't can't won't isn't doesn't didn't aren't wasn't couldn't wouldn't",
    "modals": "can could may might must shall should will would",
    "prepositions": "of in to for with on at from by about as into over after",
    "conjunctions": "and or but so because if while although though",
    "questions": "what when where which who why how",
    "softeners": "just maybe perhaps quite rather really pretty actually well please kindly sorry",
    "greetings": "hi hello hey dear thanks thank welcome bye goodbye",
}
_GROUP_OF = {word: group for group, words in _GROUPS.items() for word in words.split()}

HABITS = (
    "words", "sentence_words", "word_letters", "readability", "contractions", "capital_words", "digits", "emoji",
    "lines", *_MARKS.values(), *_GROUPS,
)  # fmt: skip


def sentences(text: str) -> list[str]:
    """Return the sentences of a text: what ends in a full stop, a question or exclamation mark, or with its line."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence.strip()]


def habits(text: str) -> dict[str, float]:
    """Return the figure of every one of `HABITS`: lengths, and how often things come per word or per sentence."""
    words = [word.replace("\u2019", "'") for word in _WORD.findall(text)]
    lowered = [word.lower() for word in words]
    num_words, num_sentences = max(1, len(words)), max(1, len(sentences(text)))
    figures = dict.fromkeys(HABITS, 0.0)
    figures["words"] = math.log2(1 + len(words))
    figures["sentence_words"] = num_words / num_sentences
    figures["word_letters"] = sum(map(len, words)) / num_words
    figures["readability"] = _readability(lowered, num_sentences)
    figures["contractions"] = sum("'" in word for word in words) / num_words
    figures["capital_words"] = sum(len(word) > 1 and word.isupper() for word in words) / num_words
    figures["digits"] = sum(map(str.isdigit, text)) / max(1, len(text))
    figures["emoji"] = sum(sign >= "\u2600" and not sign.isalnum() for sign in text) / num_sentences
    figures["lines"] = (text.strip().count("\n") + 1) / num_sentences
    for signs, name in _MARKS.items():
        figures[name] = sum(map(text.count, signs)) / num_sentences
    figures["ellipses"] += text.count("...") / num_sentences
    for word in lowered:
        if group := _GROUP_OF.get(word):
            figures[group] += 1 / num_words
    return figures


def _readability(words: list[str], num_sentences: int) -> float:
    """Return Flesch's reading ease: 100 is easy, 0 is hard; kept within -50 and 150, where one long word cannot rule."""
    if not words:
        return 0.0
    syllables = sum(max(1, len(_VOWELS.findall(word))) for word in words)
    ease = 206.835 - 1.015 * len(words) / num_sentences - 84.6 * syllables / len(words)
    return min(150.0, max(-50.0, ease))

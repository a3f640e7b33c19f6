"""How texts become words; each metric was published with its own way, and its figures hold for that way only."""

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = {ord(sign): None for sign in string.punctuation}
_LETTERS_AND_DIGITS = re.compile(r"[^\W_]+")

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLIT_13A = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)


def squad_words(text: str) -> list[str]:
    """Return the words as SQuAD compares them: no case, no ASCII punctuation, no English articles.

    Rajpurkar et al. 2016, arXiv 1606.05250; the official evaluation script 1.1.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def rouge_words(text: str) -> list[str]:
    """Return runs of letters and digits in lower case.

    Equal to the package `rouge-score` without stemming on ASCII text; letters outside ASCII are kept, where that package drops them.
    """
    return _LETTERS_AND_DIGITS.findall(text.lower())


def bleu_words(text: str) -> list[str]:
    """Return the tokens of `13a`, the tokenization of mteval-v13a and sacrebleu (Post 2018, arXiv 1804.08771)."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, replacement in _SPLIT_13A:
        text = pattern.sub(replacement, text)
    return text.split()


def chrf_words(text: str) -> list[str]:
    """Return the words as chrF++ counts them: one ASCII punctuation mark at the end or the start of a word is a word.

    Popovic 2017; the rule is that of sacrebleu and of Popovic's own program, one mark a word, the end first.
    """
    words: list[str] = []
    for word in text.split():
        if len(word) == 1:
            words.append(word)
        elif word[-1] in string.punctuation:
            words += [word[:-1], word[-1]]
        elif word[0] in string.punctuation:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words

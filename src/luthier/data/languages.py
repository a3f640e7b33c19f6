"""A cheap guess at a text's language: by its script and, among Latin letters, by its commonest words.

It tells a handful of large languages apart in a sentence or more; of shorter texts, names and code it says nothing.
"""

import re
from collections import Counter

_COMMON_WORDS = {
    "English": "the of and to is that it for was with you are this not have be on at by from what can your how which",
    "German": "der die das und ist nicht ein eine ich sie mit zu den von auf wie kann es im wir auch sind wird",
    "French": "le la les des est et une vous que pas je dans pour qui sur avec ce au votre sont nous du",
    "Spanish": "el los las que es una por para con su en del como puede usted est\u00e1 son mi muy lo y",
    "Italian": "il che di una sono con del della \u00e8 gli si pu\u00f2 anche questo nel alla ho",
    "Portuguese": "os que n\u00e3o uma para da em voc\u00ea por como est\u00e1 seu s\u00e3o isso mais ao",
    "Dutch": "het een en van ik niet dat met voor zijn je aan kan wat deze naar maar ook wordt heeft",
}
_SCRIPTS = {
    "Russian or another in Cyrillic": ("\u0400", "\u04ff"),
    "Greek": ("\u0370", "\u03ff"),
    "Arabic": ("\u0600", "\u06ff"),
    "Hebrew": ("\u0590", "\u05ff"),
    "Hindi or another in Devanagari": ("\u0900", "\u097f"),
    "Thai": ("\u0e00", "\u0e7f"),
    "Korean": ("\uac00", "\ud7af"),
    "Japanese": ("\u3040", "\u30ff"),
    "Chinese": ("\u4e00", "\u9fff"),
}
_SCRIPT = {name: re.compile(f"[{first}-{last}]") for name, (first, last) in _SCRIPTS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_ALL_COMMON = {name: frozenset(words.split()) for name, words in _COMMON_WORDS.items()}
_READ_CHARACTERS = 600
_FEWEST_WORDS = 6
_FEWEST_HITS = 3
_SCRIPT_SHARE = 0.3
_LEAD = 2
_LEAST_SHARE = 0.1


def language(text: str) -> str | None:
    """Return the language of a text's beginning, or None where it is too short or undecided."""
    head = text[:_READ_CHARACTERS]
    if not head.isascii():
        script = _script(head)
        if script is not None:
            return script
    words = _WORD.findall(head.casefold())
    if len(words) < _FEWEST_WORDS:
        return None
    different = set(words)
    hits = Counter({name: len(different & common) for name, common in _ALL_COMMON.items()})
    (best, most), (_, second) = hits.most_common(2)
    return best if most >= max(_FEWEST_HITS, _LEAD * second, _LEAST_SHARE * len(different)) else None


def _script(text: str) -> str | None:
    letters = sum(map(str.isalpha, text))
    counts = {name: len(shape.findall(text)) for name, shape in _SCRIPT.items()}
    # Japanese is written with Chinese characters too; some kana among them decide.
    if counts["Japanese"] * 10 > counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese")
    name = max(counts, key=lambda script: counts[script])
    return name if counts[name] and counts[name] >= _SCRIPT_SHARE * letters else None

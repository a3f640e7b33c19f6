"""Write the starter's training data: a seeded mixture of real text and generated skills, counted in tokens.

    python -m luthier.starter.recipe CORPUS OUT --tokens 16000000 --share 0.45 --seed 1

OUT gets `train.jsonl`, `heldout.jsonl` (documents never in train), `heldout_skills/<skill>.jsonl`
(rows made from those documents) and, unless it is there already, `tokenizer/`: a copy of the
folder given by `--tokenizer`, else learned from the mixture. Equal arguments give equal bytes.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from luthier.core.errors import DataError
from luthier.core.hashing import generator
from luthier.core.types import JsonObject
from luthier.starter import corpus, generate, tokenizer
from luthier.starter.corpus import Document
from luthier.starter.source import Source

DIALOGUE_SHARE = 0.55
"""The share of the real text's tokens that comes from rows with turns; the rest is books and plain prose."""

HELD_OUT_TOKENS = 150_000
HELD_OUT_ROWS = 100
_TOKENIZER_CHARS = 24_000_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Portion:
    """A part of the mixture: its name, its rows as JSON lines, and how many tokens they are."""

    name: str
    lines: tuple[str, ...]
    num_tokens: int


def write(
    folder: Path,
    out: Path,
    *,
    num_tokens: int,
    share: float,
    seed: int,
    tokenizer_from: Path | None = None,
    only: Sequence[str] = (),
) -> list[Portion]:
    """Write the data of the starter from a corpus folder and return what it is made of."""
    out.mkdir(parents=True, exist_ok=True)
    documents = list(corpus.read(folder))
    kept = [document for document in documents if not document.held_out]
    unseen = [document for document in documents if document.held_out]
    if not kept or not unseen:
        raise DataError(
            f"{folder} has {len(kept)} documents to train on and {len(unseen)} held out; both parts need some. "
            "About one document in a hundred is held out: a corpus needs a few hundred documents."
        )
    source = Source(chain.from_iterable(document.rows for document in kept))
    if not (out / "tokenizer" / "tokenizer.json").exists():
        if tokenizer_from is None:
            made = tokenizer.train(_tokenizer_texts(kept, source, share, seed))
        else:
            made = _loaded(tokenizer_from)
        tokenizer.save(made, out / "tokenizer")
    encoder = _loaded(out / "tokenizer")
    portions = [
        *_real(encoder, kept, round(num_tokens * (1 - share)), seed),
        *_generated(encoder, source, round(num_tokens * share), seed, only),
    ]
    lines = list(chain.from_iterable(portion.lines for portion in portions))
    order = generator(seed, "starter order").permutation(len(lines))
    _write_lines(out / "train.jsonl", (lines[position] for position in order))
    _write_held_out(encoder, unseen, out, seed)
    return portions


def count_tokens(encoder: Tokenizer, rows: Sequence[JsonObject]) -> list[int]:
    """Count the tokens of each row as the chat template lays it out: one for the start, two a turn."""
    texts = [corpus.texts(row) for row in rows]
    encoded = encoder.encode_batch_fast(list(chain.from_iterable(texts)), add_special_tokens=False)
    lengths = iter(encoded)
    return [
        1 + sum(len(next(lengths).ids) for _ in parts) + (2 * len(parts) if "messages" in row else 1)
        for row, parts in zip(rows, texts)
    ]


def table(portions: Sequence[Portion]) -> str:
    """Return a table of rows and tokens by portion, with the share of each."""
    total = sum(portion.num_tokens for portion in portions)
    quoting = {f"skill: {skill.name}" for skill in generate.skills() if skill.quotes_corpus}
    quoted = sum(portion.num_tokens for portion in portions if portion.name in quoting)
    lines = [f"{'portion':<60} {'rows':>9} {'tokens':>12} {'share':>7}"]
    lines += [
        f"{portion.name:<60} {len(portion.lines):>9,} {portion.num_tokens:>12,} {portion.num_tokens / total:>7.1%}"
        for portion in portions
    ]
    lines.append(f"{'together':<60} {sum(len(p.lines) for p in portions):>9,} {total:>12,} {1:>7.1%}")
    lines.append(f"{'of these quoted from real text':<60} {'':>9} {quoted:>12,} {quoted / total:>7.1%}")
    return "\n".join(lines)


def main() -> None:
    """Run the recipe from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of *.jsonl or *.jsonl.zst files")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--tokens", type=int, default=16_000_000, help="tokens of train.jsonl, about")
    parser.add_argument("--share", type=float, default=0.45, help="share of generated tokens")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer to keep, such as that of the starter")
    parser.add_argument("--only", action="append", default=[], help="a skill to draw from; else all; may be repeated")
    given = parser.parse_args()
    portions = write(
        given.corpus,
        given.out,
        num_tokens=given.tokens,
        share=given.share,
        seed=given.seed,
        tokenizer_from=given.tokenizer,
        only=given.only,
    )
    print(table(portions))


def _loaded(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _tokenizer_texts(kept: list[Document], source: Source, share: float, seed: int) -> list[str]:
    order = generator(seed, "starter tokenizer").permutation(len(kept))
    real = (text for position in order for row in kept[position].rows for text in corpus.texts(row))
    texts = list(_up_to(real, round(_TOKENIZER_CHARS * (1 - share))))
    for skill in generate.skills():
        made = generate.rows(skill, source, seed, "tokenizer")
        texts += _up_to(
            (text for row in made for text in corpus.texts(row)), round(_TOKENIZER_CHARS * share * skill.share)
        )
    return texts


def _up_to(texts: Iterable[str], num_chars: int) -> Iterator[str]:
    for text in texts:
        if num_chars <= 0:
            return
        num_chars -= len(text)
        yield text


def _real(encoder: Tokenizer, kept: list[Document], num_tokens: int, seed: int) -> list[Portion]:
    """Take documents in random order, dialogues and prose apart, as many passes as the tokens need."""
    dialogues = [document for document in kept if "messages" in document.rows[0]]
    prose = [document for document in kept if "messages" not in document.rows[0]]
    if not dialogues or not prose:
        return _by_source(encoder, kept, num_tokens, seed)
    of_dialogues = round(num_tokens * DIALOGUE_SHARE)
    return [
        *_by_source(encoder, dialogues, of_dialogues, seed),
        *_by_source(encoder, prose, num_tokens - of_dialogues, seed),
    ]


def _by_source(encoder: Tokenizer, documents: list[Document], num_tokens: int, seed: int) -> list[Portion]:
    lines: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for (name, row), count in _counted(encoder, _passes(documents, seed), num_tokens):
        lines.setdefault(name, []).append(_line(row))
        counts[name] = counts.get(name, 0) + count
    return [Portion(name, tuple(lines[name]), counts[name]) for name in sorted(lines)]


def _passes(documents: list[Document], seed: int) -> Iterator[tuple[str, JsonObject]]:
    """Yield named rows, one pass over all of them after the other, each in its own random order."""
    rows = [(_portion_name(document), row) for document in documents for row in document.rows]
    passed = 0
    while True:
        order = generator(seed, "starter pass", rows[0][0], passed).permutation(len(rows))
        yield from (rows[position] for position in order)
        passed += 1


def _portion_name(document: Document) -> str:
    return "books" if document.family == "books" else document.source


def _generated(encoder: Tokenizer, source: Source, num_tokens: int, seed: int, only: Sequence[str]) -> list[Portion]:
    portions = []
    for skill in generate.skills(only):
        named = ((skill.name, row) for row in generate.rows(skill, source, seed))
        counted = list(_counted(encoder, named, round(num_tokens * skill.share)))
        lines = tuple(_line(row) for (_, row), _ in counted)
        portions.append(Portion(f"skill: {skill.name}", lines, sum(count for _, count in counted)))
    return portions


def _counted(
    encoder: Tokenizer, named_rows: Iterator[tuple[str, JsonObject]], num_tokens: int
) -> Iterator[tuple[tuple[str, JsonObject], int]]:
    """Yield rows with their token counts until the tokens are reached."""
    left = num_tokens
    while left > 0:
        batch = list(islice(named_rows, _BATCH))
        for named_row, count in zip(batch, count_tokens(encoder, [row for _, row in batch])):
            if left <= 0:
                return
            left -= count
            yield named_row, count


def _write_held_out(encoder: Tokenizer, unseen: list[Document], out: Path, seed: int) -> None:
    """Write held-out documents up to the limit in random order, and rows of every skill made from them alone."""
    order = generator(seed, "starter held-out").permutation(len(unseen))
    rows = [row for position in order for row in unseen[position].rows]
    lengths = np.cumsum(count_tokens(encoder, rows))
    _write_lines(out / "heldout.jsonl", (_line(row) for row, length in zip(rows, lengths) if length <= HELD_OUT_TOKENS))
    source = Source(rows)
    folder = out / "heldout_skills"
    folder.mkdir(exist_ok=True)
    for skill in generate.skills():
        made = islice(generate.rows(skill, source, seed, "held-out"), HELD_OUT_ROWS)
        _write_lines(folder / f"{skill.name}.jsonl", map(_line, made))


def _line(row: JsonObject) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()

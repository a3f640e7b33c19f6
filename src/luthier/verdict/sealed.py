"""The proof that nothing of the sealed test part is in what prompts, example pools and indexes are made of.

A training row may share with the test neither its id, nor its content, nor its question. A text of the user's may not
hold a test question together with its answer: a question alone gives nothing away, and answering it is what knowledge is for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from luthier.core.errors import DataError, ProofFailed
from luthier.core.types import JsonObject, Row
from luthier.data.knowledge import Document
from luthier.data.normal import answer, content_key, normalized, place, question, text_key

# Words by which a question is first looked up in a text, and those after or before it among which its answer stands.
_HEAD = 6
_NEAR = 12
_FEWEST_WORDS = 4


class Sealed:
    """What the test rows are told by."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._num_rows = len(rows)
        self._ids = {row.id: row for row in rows}
        self._contents = {content_key(row): row for row in rows}
        self._questions = {text_key(normalized(question(row))): row for row in rows}
        self._by_head: defaultdict[tuple[str, ...], list[tuple[list[str], list[str], Row]]] = defaultdict(list)
        for row in rows:
            asked, wanted = normalized(question(row)).split(), normalized(answer(row)).split()
            if wanted and len(asked) + len(wanted) >= _FEWEST_WORDS:
                self._by_head[tuple(asked[:_HEAD])].append((asked, wanted, row))
        self._head_sizes = sorted({len(head) for head in self._by_head if head})

    def prove(self, pool: Iterable[Row], documents: Sequence[Document]) -> JsonObject:
        """Return what was compared; raise ProofFailed or DataError that names the first row found on both sides."""
        num_pool = 0
        for row in pool:
            num_pool += 1
            self._refuse_row(row)
        for document in documents:
            self._refuse_text(document)
        return {"test_rows": self._num_rows, "pool_rows": num_pool, "texts": [one.name for one in documents]}

    def _refuse_row(self, row: Row) -> None:
        shared = {
            "id": self._ids.get(row.id),
            "content": self._contents.get(content_key(row)),
            "question": self._questions.get(text_key(normalized(question(row)))),
        }
        for what, sealed in shared.items():
            if sealed is not None:
                raise ProofFailed(
                    f"leak: the row {row.id} ({place(row)}), of which prompts would be made, has the {what} of the sealed test "
                    f"row {sealed.id} ({place(sealed)}). Nothing was asked. Split the data anew with: luthier run"
                )

    def _refuse_text(self, document: Document) -> None:
        words = normalized(document.text).split()
        for start in range(len(words)):
            for size in self._head_sizes:
                for asked, wanted, row in self._by_head.get(tuple(words[start : start + size]), ()):
                    if self._stands(words, start, asked, wanted):
                        raise DataError(
                            f"leak: {document.name} holds the question and the answer of the sealed test row {row.id} "
                            f"({place(row)}). Take them out of the text, or that row out of the test."
                        )

    def _stands(self, words: list[str], start: int, asked: list[str], wanted: list[str]) -> bool:
        """Tell whether a question stands at a place, with its answer close before or behind it."""
        end = start + len(asked)
        if words[start:end] != asked:
            return False
        behind = words[end : end + _NEAR + len(wanted)]
        before = words[max(0, start - _NEAR - len(wanted)) : start]
        return _holds(behind, wanted) or _holds(before, wanted)


def _holds(words: list[str], wanted: list[str]) -> bool:
    return any(words[place : place + len(wanted)] == wanted for place in range(len(words) - len(wanted) + 1))

"""What users ask, read from a file whose rows need no answers; where right answers stand beside the questions, they are kept."""

from luthier.config.settings import DataSettings
from luthier.core.errors import DataError
from luthier.core.hashing import text_hash
from luthier.core.types import Conversation, JsonObject, JsonValue, Message, Row
from luthier.data.messages import messages_from, value_text
from luthier.data.problems import RowProblem
from luthier.data.records import Record
from luthier.recipes.answers_file import PROMPTS, named_column, records_in, wanted_text
from luthier.verdict.questions import Question

_MOST_SHOWN = 3


def read_inputs(path: str, settings: DataSettings) -> list[Question]:
    """Return what each row asks; `wanted` is empty in all of them, or in none.

    A row is a list of `messages`, whose last turn is the right answer where the assistant has it, or a text in the column
    `data.input`, with the right answer in `data.output` where that is named. Raises DataError that names the first bad rows.
    """
    records = records_in(path)
    there = list(dict.fromkeys(column for _, record in records for column in record.value))
    column = named_column(settings.input, PROMPTS, there, "--input", path)
    if column is None:
        raise DataError(
            f"{path}: name the column with the inputs with --input; there are: {', '.join(there) or 'no rows'}."
        )
    for name in settings.output or ():
        named_column(name, (), there, "--output", path)
    found, problems = list[Question](), list[str]()
    for file, record in records:
        try:
            found.append(_question(file, record, column, settings))
        except RowProblem as problem:
            problems.append(f"{file}:{record.line}: {problem.rule}: {problem.detail}")
    if problems:
        shown = "\n  ".join(problems[:_MOST_SHOWN])
        raise DataError(
            f"{len(problems):,} of {len(records):,} rows of {path} cannot be asked:\n  {shown}\nMend them or leave them out."
        )
    _refuse_some_answers(found, path)
    return found


def _question(file: str, record: Record, column: str, settings: DataSettings) -> Question:
    messages = _messages(record.value.get(column))
    wanted = messages.pop().content if messages and messages[-1].role == "assistant" else ""
    if settings.output:
        wanted = wanted_text(_with_columns(record.value, settings.output), settings.output)
    if not messages or messages[-1].role not in ("user", "tool"):
        raise RowProblem("no-question", "no turn of the user that could be answered")
    group = record.value.get(settings.group) if settings.group else None
    row = Row(
        text_hash(f"{file}:{record.line}:{record.value!r}")[:16], file, record.line, record.line,
        Conversation((*messages, Message("assistant", wanted))), None if group is None else value_text(group),
    )  # fmt: skip
    return Question(row, tuple(messages), (), wanted)


def _messages(value: JsonValue) -> list[Message]:
    if isinstance(value, list) or (isinstance(value, str) and value.startswith("[{")):
        return messages_from(value)
    text = "" if value is None else value_text(value)
    return [Message("user", text)] if text.strip() else []


def _with_columns(row: JsonObject, columns: tuple[str, ...]) -> JsonObject:
    missing = [name for name in columns if name not in row]
    if missing:
        raise RowProblem("missing-answer", f"there is no {missing[0]!r}")
    return row


def _refuse_some_answers(found: list[Question], path: str) -> None:
    without = [question for question in found if not question.wanted.strip()]
    if without and len(without) < len(found):
        raise DataError(
            f"{path}: {len(found) - len(without):,} inputs have a right answer and {len(without):,} have none (the first: "
            f"{without[0].row.file}:{without[0].row.line}). Give all of them one, or leave all out."
        )

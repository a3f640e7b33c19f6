"""The classical arm: what does a model from before the transformers reach on the same rows?

It takes seconds on one core, and where it is as good as a tuned model it is the better answer.
Questions become word 1-2-grams and character 2-5-grams, weighted by tf-idf. Labels come from a
linear model (a recipe that Wang and Manning 2012, https://aclanthology.org/P12-2018, found hard to
beat), values of JSON that stand in the question from a linear tagger, everything else from the most
similar training question. On free text it is a floor, not a rival.
"""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_union
from sklearn.svm import LinearSVC

from luthier.core.hashing import canonical_json, generator
from luthier.core.types import JsonObject, JsonValue
from luthier.graders.json_fields import Grader as JsonFields
from luthier.graders.json_fields import InvalidJson, parsed
from luthier.verdict import filling
from luthier.verdict.choose import are_labels

Pairs = Sequence[tuple[str, str]]
LinearModel = LinearSVC | LogisticRegression

# Twenty million characters take about half a minute to count on one core.
_MOST_ROWS = 50_000
_MOST_CHARACTERS = 20_000_000
_LONGEST_QUESTION = 4_000
_MOST_FEATURES = 1 << 18
_QUESTIONS_AT_ONCE = 256
_CHECKED_ROWS = 200
_NAMED = 5
_ABSENT = ""


class Arm:
    """A classical model of (question, answer) pairs.

    `description` says what was fitted; `majority` is the most common answer of the training rows.
    """

    weights = None
    description: str
    majority: str

    def __init__(self, train: Pairs, validation: Pairs, grader: str, seed: int) -> None:
        assert train
        rows = _sample(train, seed)
        self._features = _Features([question for question, _ in rows])
        self._answers = [answer.strip() for _, answer in rows]
        (self.majority, times), *_ = Counter(self._answers).most_common(1)
        self._labels: _Labels | None = None
        self._fields: dict[str, _Labels] = {}
        self._objects: list[JsonObject] = []
        self._copied: filling.CopiedFields | None = None
        checked = [(question, answer.strip()) for question, answer in validation]
        if grader == "accuracy":
            self._labels = _Labels(self._features, self._answers, checked, seed)
        elif grader.startswith("json_"):
            self._objects = [_object(answer) for answer in self._answers]
            self._fields = self._fitted_fields(checked, seed)
            self._copied = self._fitted_copies([question for question, _ in rows], checked[:_CHECKED_ROWS], seed)
        share = f"the most common answer alone is {100 * times / len(rows):.1f} % of them"
        used = f"{len(rows):,} of {len(train):,}" if len(rows) < len(train) else f"{len(rows):,}"
        self.description = f"{self._method()}, fitted on {used} training rows; {share}."

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Return one answer for each question."""
        matrix = self._features.of(questions)
        if self._labels is not None:
            return self._labels.predict(matrix)
        if self._fields or self._copied:
            return self._json_answers(questions, matrix)
        return [self._answers[row] for row in self._features.nearest(matrix)]

    def _method(self) -> str:
        if self._labels is not None:
            return f"{self._labels.name} over word 1-2-grams and character 2-5-grams (tf-idf)"
        nearest = "the answer of the most similar training question (tf-idf, cosine)"
        of_keys = [f"{key} by {model.name}" for key, model in self._fields.items()]
        if self._copied:
            paths = [".".join(field.path) for field in self._copied.fields]
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            of_keys.append(f"{', '.join(paths[:_NAMED])}{more} by a linear tagger of the question's words")
        if not of_keys:
            return nearest
        same = f" with the same {', '.join(self._fields)}" if self._fields else ""
        return f"{'; '.join(of_keys)}; the other fields from {nearest}{same}"

    def _fitted_fields(self, validation: Pairs, seed: int) -> dict[str, "_Labels"]:
        """Fit one linear model for each top-level key whose values are few scalars."""
        checked = [(question, _object(answer)) for question, answer in validation]
        fields: dict[str, _Labels] = {}
        for key in dict.fromkeys(key for value in self._objects for key in value):
            values = [_value(value, key) for value in self._objects]
            scalar = not any(isinstance(value.get(key), dict | list) for value in self._objects)
            if scalar and are_labels(Counter(values)):
                pairs = [(question, _value(value, key)) for question, value in checked]
                fields[key] = _Labels(self._features, values, pairs, seed)
        return fields

    def _fitted_copies(self, questions: Sequence[str], validation: Pairs, seed: int) -> filling.CopiedFields | None:
        """Fit the tagger; it is left out where the answers of the nearest rows are better on the validation rows."""
        hints = [_hint(self._values(value)) for value in self._objects]
        found = filling.fitted(questions, self._objects, hints, self._fields, seed)
        if found is None or not validation:
            return found
        asked = [question for question, _ in validation]
        matrix = self._features.of(asked)
        without = _score(self._json_answers(asked, matrix), validation)
        self._copied = found
        return found if _score(self._json_answers(asked, matrix), validation) >= without else None

    def _json_answers(self, questions: Sequence[str], matrix: csr_matrix) -> list[str]:
        """Predict the keys with few values, find the copied ones, and take the rest from the nearest row that agrees."""
        kinds = self._predicted(matrix)
        nearest = self._nearest_of_kind(matrix, kinds)
        answers: list[str] = []
        for question, row, kind in zip(questions, nearest.tolist(), kinds, strict=True):
            answer = self._objects[row]
            if self._copied:
                answer = self._copied.filled(answer, question[:_LONGEST_QUESTION], _hint(kind))
            answers.append(self._filled(answer, kind))
        return answers

    def _predicted(self, matrix: csr_matrix) -> list[tuple[str, ...]]:
        columns = [model.predict(matrix) for model in self._fields.values()]
        return list(zip(*columns, strict=True)) if columns else [()] * matrix.get_shape()[0]

    def _nearest_of_kind(self, matrix: csr_matrix, asked_kinds: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return for each question the most similar training row with the same predicted values."""
        kinds = [self._values(value) for value in self._objects]
        rows_of_kind = {
            kind: np.array([row for row, other in enumerate(kinds) if other == kind]) for kind in set(kinds)
        }
        nearest = np.zeros(len(asked_kinds), dtype=np.int64)
        for kind in set(asked_kinds):
            asked = np.array([question for question, other in enumerate(asked_kinds) if other == kind])
            nearest[asked] = self._features.nearest(matrix[asked], rows_of_kind.get(kind))
        return nearest

    def _values(self, answer: JsonObject) -> tuple[str, ...]:
        return tuple(_value(answer, key) for key in self._fields)

    def _filled(self, neighbour: JsonObject, values: Sequence[str]) -> str:
        answer = dict(neighbour)
        for key, value in zip(self._fields, values, strict=True):
            if value == _ABSENT:
                answer.pop(key, None)
            else:
                answer[key] = json.loads(value)
        return json.dumps(answer, ensure_ascii=False)


class _Features:
    """The tf-idf vectors of the training questions, each of length 1, so that a product is a cosine."""

    def __init__(self, questions: Sequence[str]) -> None:
        cut = [question[:_LONGEST_QUESTION] for question in questions]
        self._union: FeatureUnion | None = None
        self.train = csr_matrix((len(cut), 1))
        if any(question.strip() for question in cut):
            self._union = _vectorizer(min_count=2 if len(cut) >= 200 else 1)
            self.train = csr_matrix(self._union.fit_transform(cut)) / np.sqrt(2)

    @property
    def empty(self) -> bool:
        """Whether the questions hold nothing to tell them apart by."""
        return self._union is None

    def of(self, questions: Sequence[str]) -> csr_matrix:
        """Return one row of features for each question."""
        if self._union is None or not questions:
            return csr_matrix((len(questions), self.train.get_shape()[1]))
        return csr_matrix(self._union.transform([question[:_LONGEST_QUESTION] for question in questions])) / np.sqrt(2)

    def nearest(self, matrix: csr_matrix, rows: np.ndarray | None = None) -> np.ndarray:
        """Return for each row of features the most similar training row, among `rows` only where given."""
        candidates = self.train if rows is None else self.train[rows]
        turned = candidates.T.tocsr()
        found = [
            np.asarray((matrix[start : start + _QUESTIONS_AT_ONCE] @ turned).argmax(axis=1)).ravel()
            for start in range(0, matrix.get_shape()[0], _QUESTIONS_AT_ONCE)
        ]
        nearest = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        return nearest if rows is None else rows[nearest]


class _Labels:
    """A linear model of labels: the candidate that is right most often on the validation rows."""

    def __init__(self, features: _Features, labels: Sequence[str], validation: Pairs, seed: int) -> None:
        self._model: LinearModel | None = None
        self._only = Counter(labels).most_common(1)[0][0]
        self.name = "the only label"
        if len(set(labels)) < 2 or features.empty:
            return
        checked = features.of([question for question, _ in validation])
        wanted = np.array([answer for _, answer in validation], dtype=object)
        best = -1.0
        for name, model in _candidates(seed)[: None if validation else 1]:
            model.fit(features.train, labels)
            right = float(np.mean(model.predict(checked) == wanted)) if validation else 0.0
            if right > best:
                best, self.name, self._model = right, name, model

    def predict(self, matrix: csr_matrix) -> list[str]:
        """Return one label for each row of features."""
        if self._model is None:
            return [self._only] * matrix.get_shape()[0]
        return [str(label) for label in self._model.predict(matrix)] if matrix.get_shape()[0] else []


def _candidates(seed: int) -> list[tuple[str, LinearModel]]:
    return [
        ("a linear support vector machine (C = 1)", LinearSVC(C=1.0, random_state=seed)),
        ("a linear support vector machine (C = 0.3)", LinearSVC(C=0.3, random_state=seed)),
        ("logistic regression (C = 10)", LogisticRegression(C=10.0, tol=1e-3, max_iter=200)),
    ]


def _vectorizer(min_count: int) -> FeatureUnion:
    # Signs count as words, so that no question but a blank one is without features.
    pattern = r"\w+|[^\w\s]+"
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=pattern, sublinear_tf=True, max_features=_MOST_FEATURES)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=min_count, max_features=_MOST_FEATURES
    )
    return make_union(words, characters)


def _sample(train: Pairs, seed: int) -> Pairs:
    """Return the training rows, or as many of them, drawn at random, as can be counted in half a minute."""
    order = generator(seed, "classical").permutation(len(train))[:_MOST_ROWS]
    sizes = np.array([min(len(train[row][0]), _LONGEST_QUESTION) for row in order])
    kept = max(1, int(np.searchsorted(np.cumsum(sizes), _MOST_CHARACTERS, side="right")))
    return [train[row] for row in sorted(order[:kept])]


def _object(answer: str) -> JsonObject:
    try:
        value = parsed(answer)
    except InvalidJson:
        return {}
    return value if isinstance(value, dict) else {}


def _value(answer: JsonObject, key: str) -> str:
    value: JsonValue = answer.get(key)
    return canonical_json(value) if key in answer else _ABSENT


def _hint(values: Sequence[str]) -> str:
    return "|".join(values)


def _score(answers: Sequence[str], wanted: Pairs) -> float:
    grader = JsonFields()
    return sum(grader.grade("", answer, right).score for answer, (_, right) in zip(answers, wanted, strict=True))

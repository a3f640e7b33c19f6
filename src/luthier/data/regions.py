"""What a set's questions are about: regions of like texts, named by their words, from a sample.

Word counts weighted by tf-idf, 48 singular vectors, and mini-batch k-means; 8,000 texts take about two
seconds. Good for seeing where rows are many and where they are few, not for judging single rows.

Suffixes: N texts, V words, R regions, K singular vectors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.pipeline import Pipeline

LONGEST_TEXT = 2_000
_MOST_WORDS = 20_000
_VECTORS = 48
_MOST_REGIONS = 64
_NAME_WORDS = 3
_PLANE_STEPS = 100
_LEAST_DISTANCE = 1e-9
# What is left of "didn't" and "we'll" once the apostrophe is a space.
_STUBS = frozenset(
    "ain aren couldn didn doesn don hadn hasn haven isn ll mustn re shan shouldn ve wasn weren won wouldn".split()
)
_DIGIT = re.compile(r"\d")
_MOST_COMPARED = 2_000


@dataclass(frozen=True)
class Regions:
    """The region of every text, how many texts each has, and the words that set it apart from the others."""

    region_N: np.ndarray
    sizes: list[int]
    names: list[str]
    _model: "Pipeline"

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return the regions that other texts fall into."""
        return self._model.predict([text[:LONGEST_TEXT] for text in texts]) if texts else np.empty(0, dtype=np.int64)

    def plane(self) -> np.ndarray:
        """Return a place for every region, in the square from 0 to 1, so that like regions lie near each other.

        The first two principal components of the centres, then 100 steps of stress majorization (SMACOF, de Leeuw 1977)
        towards the distances that the centres have among them.
        """
        centre_RK = self._model[-1].cluster_centers_  # pyright: ignore[reportAttributeAccessIssue]
        centre_RK = centre_RK / np.maximum(np.linalg.norm(centre_RK, axis=1, keepdims=True), _LEAST_DISTANCE)
        wanted_RR = _distances(centre_RK)
        axes, sizes, _ = np.linalg.svd(centre_RK - centre_RK.mean(axis=0), full_matrices=False)
        # Which way an axis points is chance: its greatest value is made positive.
        place_R2 = axes[:, :2] * sizes[:2] * np.sign(axes[np.abs(axes[:, :2]).argmax(axis=0), [0, 1]])
        for _ in range(_PLANE_STEPS):
            ratio_RR = wanted_RR / np.maximum(_distances(place_R2), _LEAST_DISTANCE)
            np.fill_diagonal(ratio_RR, 0)
            place_R2 = (place_R2 * ratio_RR.sum(axis=1, keepdims=True) - ratio_RR @ place_R2) / len(place_R2)
        low, high = place_R2.min(axis=0), place_R2.max(axis=0)
        return (place_R2 - low) / np.maximum(high - low, _LEAST_DISTANCE)

    def nearest_R(self, texts: Sequence[str]) -> np.ndarray:
        """Return for each region the text nearest its centre, -1 for a region without texts."""
        distance_N = self._model.transform([text[:LONGEST_TEXT] for text in texts]).min(axis=1)
        members = [np.flatnonzero(self.region_N == region) for region in range(len(self.sizes))]
        return np.array([one[distance_N[one].argmin()] if len(one) else -1 for one in members])

    def redundant_N(self, texts: Sequence[str], likeness: float) -> np.ndarray:
        """Tell which of the texts that the regions were made from has another with this cosine similarity, both in one region."""
        words_NV = self._model[0].transform([text[:LONGEST_TEXT] for text in texts])
        redundant = np.zeros(len(texts), dtype=bool)
        for region in range(len(self.sizes)):
            members = np.flatnonzero(self.region_N == region)[:_MOST_COMPARED]
            cosine = (words_NV[members] @ words_NV[members].T).toarray()
            np.fill_diagonal(cosine, 0)
            redundant[members] = cosine.max(axis=1, initial=0) >= likeness
        return redundant


def find_regions(texts: Sequence[str], seed: int) -> Regions | None:
    """Group normalized texts into about sqrt(N / 2) regions; None when they have too few words in common."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    words = TfidfVectorizer(analyzer=str.split, max_features=_MOST_WORDS, min_df=2, sublinear_tf=True)  # type: ignore[arg-type]  # the stubs know a str only, not a callable
    short = [text[:LONGEST_TEXT] for text in texts]
    if len(_repeated_words(short)) < 2 * _VECTORS:
        return None
    num_regions = min(_MOST_REGIONS, max(2, round((len(texts) / 2) ** 0.5)))
    kmeans = MiniBatchKMeans(num_regions, batch_size=1024, n_init=3, max_iter=30, random_state=seed)  # type: ignore[arg-type]  # the stubs read 'auto' as the only n_init
    vectors = TruncatedSVD(_VECTORS, n_iter=2, random_state=seed)
    model = make_pipeline(words, vectors, Normalizer(copy=False), kmeans)
    region_N = np.asarray(model.fit_predict(short))
    sizes = np.bincount(region_N, minlength=num_regions).tolist()
    words_NV = cast("csr_matrix", words.transform(short))
    names = _names(words_NV, words.get_feature_names_out(), region_N, num_regions)
    return Regions(region_N, sizes, names, model)


def _repeated_words(texts: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()
    for text in texts:
        words = set(text.split())
        again |= words & seen
        seen |= words
    return again


def _distances(place_RK: np.ndarray) -> np.ndarray:
    return np.linalg.norm(place_RK[:, None] - place_RK[None], axis=2)


def _says_much(word: str) -> bool:
    """Tell whether a word may name a region; one with digits may be the number of a person or of a card."""
    return len(word) > 1 and not _DIGIT.search(word) and word not in _STUBS


def _names(words_NV: "csr_matrix", vocabulary: np.ndarray, region_N: np.ndarray, num_regions: int) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    usual_V = np.asarray(words_NV.mean(axis=0)).ravel()
    says_V = np.array([_says_much(word) and word not in ENGLISH_STOP_WORDS for word in vocabulary.tolist()])
    names = []
    for region in range(num_regions):
        members = np.flatnonzero(region_N == region)
        special_V = np.asarray(words_NV[members].mean(axis=0)).ravel() - usual_V if len(members) else usual_V
        ranked = np.argsort(np.where(says_V, -special_V, np.inf), kind="stable")
        names.append(" ".join(vocabulary[ranked[:_NAME_WORDS]].tolist()))
    return names

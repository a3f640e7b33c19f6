"""Deal whole clusters into folds of about equal size, so that no two rows that are alike lie in two of them."""

from collections import Counter
from collections.abc import Sequence

from luthier.core.hashing import generator


def deal_folds(clusters: Sequence[int], folds: int, seed: int) -> list[int]:
    """Return the fold of each row, from 1, given its cluster: the largest clusters first, each to the fold with the fewest rows."""
    sizes = Counter(clusters)
    drawn = generator(seed, "folds").permutation(len(sizes))
    order = sorted(zip(sizes, drawn.tolist(), strict=True), key=lambda one: (-sizes[one[0]], one[1]))
    rows_of = dict.fromkeys(range(1, folds + 1), 0)
    fold_of: dict[int, int] = {}
    for cluster, _ in order:
        fold = min(rows_of, key=rows_of.__getitem__)
        fold_of[cluster] = fold
        rows_of[fold] += sizes[cluster]
    return [fold_of[cluster] for cluster in clusters]

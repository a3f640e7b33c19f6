"""How healthy data is, by dimension: the share of rows that no finding above "info" touches."""

from collections.abc import Iterable

from luthier.core.types import Finding

_RANKS = {"error": 0, "warning": 1, "info": 2}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, then by how many rows they surely concern."""
    return sorted(findings, key=lambda finding: (_RANKS[finding.severity], -finding.confidence * len(finding.rows)))

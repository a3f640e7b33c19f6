"""How healthy data is, by dimension: the share of rows that no finding above "info" touches."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from luthier.config.settings import CheckLimits
from luthier.core.types import Finding
from luthier.data.checking import DIMENSIONS, Dimension, Place
from luthier.data.cluster_map import ClusterMap

Severity = Literal["info", "warning", "error"]
_RANKS: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The words of a row that help to see what is wrong, and what they would be after the repair."""

    before: str
    after: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a check says of itself."""

    dimension: Dimension
    effect: str
    blind: str


@dataclass(frozen=True)
class Kind:
    """All findings of one check that are of one kind and severity; `rows` are the ids that they touch, each once."""

    check: str
    kind: str
    severity: Severity
    findings: tuple[Finding, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What the checks found in data.

    `num_rows` counts the rows of all sources, `num_rejected` those of them that cannot be read as rows. `places` has every
    row that a finding names, by its id; `excerpts` some of them, by check and id. `lengths` counts rows by characters: `lengths[i]` rows have less than 2^i and at least half as many.
    """

    num_rows: int
    num_rejected: int
    findings: tuple[Finding, ...]
    checks: Mapping[str, About]
    places: Mapping[str, Place]
    excerpts: Mapping[tuple[str, str], Excerpt]
    lengths: tuple[int, ...] = ()
    cluster_map: ClusterMap | None = None
    limits: CheckLimits = field(default_factory=CheckLimits)

    @property
    def health(self) -> dict[Dimension, float | None]:
        """The share of rows without a finding above "info", by dimension; None where no check looked."""
        touched: defaultdict[Dimension, set[str]] = defaultdict(set)
        for finding in self.findings:
            if finding.severity != "info":
                touched[self.checks[finding.check].dimension].update(finding.rows)
        looked = {about.dimension for about in self.checks.values()}
        return {
            dimension: 1 - len(touched[dimension]) / self.num_rows if dimension in looked else None
            for dimension in DIMENSIONS
        }

    @property
    def crossed(self) -> list[Dimension]:
        """The dimensions whose health is below the limit."""
        limits = limits_by_dimension(self.limits)
        return [name for name, share in self.health.items() if share is not None and share < limits[name]]

    @property
    def kinds(self) -> list[Kind]:
        """The findings in groups, worst first."""
        groups: defaultdict[tuple[str, str, Severity], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            groups[finding.check, finding.kind, finding.severity].append(finding)
        kinds = [
            Kind(check, kind, severity, tuple(found), tuple(dict.fromkeys(row for one in found for row in one.rows)))
            for (check, kind, severity), found in groups.items()
        ]
        return sorted(kinds, key=lambda kind: (_RANKS[kind.severity], -len(kind.rows), kind.check, kind.kind))


def limits_by_dimension(limits: CheckLimits) -> dict[Dimension, float]:
    """Return the least health of each dimension."""
    return {
        "valid": limits.valid, "consistent": limits.consistent, "unique": limits.unique, "varied": limits.varied,
        "private": limits.private, "leak_free": limits.leak_free, "fits": limits.fits,
    }  # fmt: skip


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, then by how many rows they surely concern."""
    return sorted(findings, key=lambda finding: (_RANKS[finding.severity], -finding.confidence * len(finding.rows)))

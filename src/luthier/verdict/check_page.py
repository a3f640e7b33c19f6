"""What is wrong with data, as one page that a person wants to read: health first, then finding by finding.

It holds everything it needs, fetches nothing and runs no script. Whatever comes from the data goes out escaped.
"""

from collections import Counter
from html import escape
from pathlib import Path

from luthier.core.rundir import write_atomically
from luthier.core.types import Finding
from luthier.data.checking import Dimension
from luthier.data.health import Diagnosis, Excerpt, Kind, limits_by_dimension
from luthier.verdict.cluster_picture import STYLE as MAP_STYLE
from luthier.verdict.cluster_picture import cluster_picture
from luthier.verdict.page import Line, clipped, folded, page, paragraph, rounded_share, section, table

_EXAMPLES = 3
_ALL_FINDINGS = 200
_LONGEST_DETAIL = 500
_BAR_WIDTH, _BAR_HEIGHT, _GAP = 640.0, 120.0, 2.0
_FATES = {"keep": "kept", "fix": "fixed", "drop": "dropped", "set aside": "set aside"}
_MEANING: dict[Dimension, str] = {
    "valid": "can be used as they are",
    "consistent": "are contradicted by no other row and written alike",
    "unique": "are no copy of another",
    "varied": "are neither one of a crowd nor alone",
    "private": "hold no personal data and no secrets",
    "leak_free": "stand on one side of the split only",
    "fits": "fit the model's context",
}
_STYLE = """
.health { display: grid; grid-template-columns: 7rem 1fr 11rem; gap: .5rem 1.4rem; align-items: center; margin: 1.6rem 0; }
.health .track { position: relative; height: .8rem; background: var(--rule); }
.health .track i { display: block; height: 100%; background: var(--quiet); }
.health .below i { background: var(--accent); }
.health .track b { position: absolute; top: -.25rem; height: 1.3rem; width: 2px; background: var(--ink); }
.health .figure { text-align: right; white-space: nowrap; }
.health .figure span { color: var(--faint); font-size: .8rem; }
.kind { margin: 2.6rem 0; break-inside: avoid; }
.kind h3 { margin-bottom: .2rem; }
.kind .severity { color: var(--faint); font-weight: 400; }
.kind .error, .kind .warning { color: var(--accent); }
.kind ul { margin: .6rem 0; padding-left: 1.1rem; }
.kind .example dl { grid-template-columns: minmax(7.5rem, 14rem) 1fr; }
svg.lengths rect { fill: var(--quiet); }
@media (max-width: 40rem) { .health { grid-template-columns: 5.5rem 1fr 4rem; } .health .figure span { display: none; } }
"""


def write_check_page(path: Path, diagnosis: Diagnosis, title: str) -> Path:
    """Write the page; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, check_page(diagnosis, title).encode())
    return path


def check_page(diagnosis: Diagnosis, title: str) -> str:
    """Return the page as a whole document."""
    kinds = diagnosis.kinds
    body = (
        f"<style>{_STYLE}{MAP_STYLE}</style>"
        + _opening(diagnosis, title)
        + section("Health", _health(diagnosis))
        + section("Findings at a glance", _overview(diagnosis, kinds))
        + section("What was found, worst first", *(_kind(diagnosis, kind) for kind in kinds))
        + section("What would be mended", _mending(diagnosis, kinds))
        + section("What is asked", _map(diagnosis))
        + section("How long the rows are", _lengths(diagnosis.lengths))
        + section("What the checks cannot see", _blind(diagnosis))
        + '<footer class="faint">Written by Luthier. The same findings, row by row: '
        "<code>luthier check DATA --json</code>. Mended rows: <code>luthier check DATA --fix OUT.jsonl</code>.</footer>"
    )
    return page(f"Luthier: {title}", body)


def _opening(diagnosis: Diagnosis, title: str) -> str:
    usable = diagnosis.num_rows - diagnosis.num_rejected
    line = paragraph(f"{title} \u00b7 {diagnosis.num_rows:,} rows, {usable:,} usable", "run")
    return f"<header>{line}\n<h1>{escape(_headline(diagnosis))}</h1></header>\n"


def _headline(diagnosis: Diagnosis) -> str:
    if diagnosis.crossed:
        shares = [f"{name.replace('_', '-')} {_percent(diagnosis.health[name] or 0.0)}" for name in diagnosis.crossed]
        return f"Not yet fit to train on: {', '.join(shares)}."
    if not diagnosis.findings:
        return "Nothing was found."
    return "Healthy: every dimension is within its limit."


def _health(diagnosis: Diagnosis) -> str:
    limits = limits_by_dimension(diagnosis.limits)
    lines = "".join(
        _health_line(name, health, limits[name]) for name, health in diagnosis.health.items() if health is not None
    )
    unseen = [name.replace("_", "-") for name, health in diagnosis.health.items() if health is None]
    words = "Of each dimension, the share of rows that no finding above a hint touches; the mark is the limit."
    note = paragraph(f"No check looked at: {', '.join(unseen)}.", "faint") if unseen else ""
    return f'{paragraph(words)}<div class="health">{lines}</div>{note}'


def _health_line(name: Dimension, health: float, limit: float) -> str:
    below = " below" if health < limit else ""
    return (
        f'<span title="rows that {escape(_MEANING[name])}">{escape(name.replace("_", "-"))}</span>'
        f'<span class="track{below}"><i style="width:{100 * health:.2f}%"></i><b style="left:{100 * limit:.2f}%"></b></span>'
        f'<span class="figure">{_percent(health)} <span>limit {_percent(limit)}</span></span>'
    )


def _overview(diagnosis: Diagnosis, kinds: list[Kind]) -> str:
    lines = [
        Line(
            [kind.severity, f"{kind.check}: {kind.kind}", f"{len(kind.rows):,}" if kind.rows else "", _share(kind, diagnosis) if kind.rows else "", f"{len(kind.findings):,}"],
            ours=kind.severity == "error",
        )
        for kind in kinds
    ]  # fmt: skip
    return table(["severity", "what", "rows", "share", "findings"], lines, words=2)


def _kind(diagnosis: Diagnosis, kind: Kind) -> str:
    about = diagnosis.checks[kind.check]
    head = (
        f'<h3>{escape(kind.check)}: {escape(kind.kind)} <span class="severity {kind.severity}">{kind.severity}, '
        f"{_extent(kind, diagnosis)}</span></h3>"
    )
    effect = paragraph(about.effect[:1].upper() + about.effect[1:].rstrip(".") + ".")
    details = _details(kind.findings[:_EXAMPLES])
    more = kind.findings[_EXAMPLES:_ALL_FINDINGS]
    rest = folded(f"{len(kind.findings) - _EXAMPLES:,} more", _details(more)) if more else ""
    return f'<div class="kind">{head}{effect}{details}{_examples(diagnosis, kind)}{rest}{paragraph("Fix: " + kind.findings[0].fix)}</div>'


def _details(findings: tuple[Finding, ...]) -> str:
    items = "".join(f"<li>{escape(clipped(finding.detail, _LONGEST_DETAIL))}</li>" for finding in findings)
    return f"<ul>{items}</ul>"


def _examples(diagnosis: Diagnosis, kind: Kind) -> str:
    shown = [id for id in kind.rows if (kind.check, id) in diagnosis.excerpts][:_EXAMPLES]
    terms = "".join(_terms(str(diagnosis.places[id]), diagnosis.excerpts[kind.check, id]) for id in shown)
    return f'<div class="example"><dl>{terms}</dl></div>' if terms else ""


def _terms(place: str, words: Excerpt) -> str:
    terms = [(place, words.before)] if words.after is None else [(place, words.before), ("after the fix", words.after)]
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(_visible(text))}</dd>" for name, text in terms)


def _visible(text: str) -> str:
    """Show what cannot be seen: characters without a shape by their number, spaces at the end of lines as dots."""
    lines = [line.rstrip(" ") + "\u00b7" * (len(line) - len(line.rstrip(" "))) for line in text.split("\n")]
    return "".join(
        letter if letter.isprintable() or letter == "\n" else f"<U+{ord(letter):04X}>" for letter in "\n".join(lines)
    )


def _mending(diagnosis: Diagnosis, kinds: list[Kind]) -> str:
    """Say what `--fix` does by itself and what it proposes; nothing where no finding knows a repair."""
    repairs = [repair for finding in diagnosis.findings for repair in finding.repairs]
    if not repairs:
        return ""
    dropped = {repair.row for repair in repairs if repair.safe and repair.action == "drop"}
    fixed = {repair.row for repair in repairs if repair.safe and repair.action == "fix"} - dropped
    words = (
        f"Of {diagnosis.num_rows:,} rows --fix mends {len(fixed):,} and drops {len(dropped):,} by itself, and sets aside "
        f"{diagnosis.num_rejected:,} that cannot be read. What it proposes waits for a decision. Above stand the words before and after."
    )
    lines = [line for kind in kinds if (line := _mending_line(kind)) is not None]
    return paragraph(words) + table(["what", "by itself", "if accepted"], lines)


def _mending_line(kind: Kind) -> Line | None:
    counts: Counter[tuple[bool, str]] = Counter(
        (repair.safe, repair.action) for finding in kind.findings for repair in finding.repairs
    )
    if not counts:
        return None
    done, proposed = (
        ", ".join(f"{count:,} {_FATES[action]}" for (safe, action), count in sorted(counts.items()) if safe is wanted)
        for wanted in (True, False)
    )
    return Line([f"{kind.check}: {kind.kind}", done, proposed])


def _map(diagnosis: Diagnosis) -> str:
    """Return the map of the rows; nothing where no check has drawn one."""
    if diagnosis.cluster_map is None:
        return ""
    touched = {id for finding in diagnosis.findings if finding.severity != "info" for id in finding.rows}
    return cluster_picture(diagnosis.cluster_map, touched)


def _lengths(lengths: tuple[int, ...]) -> str:
    """Return a histogram over doubling lengths; nothing without rows."""
    first = next((bits for bits, count in enumerate(lengths) if count), None)
    if first is None:
        return ""
    shown = lengths[first:]
    step, most = _BAR_WIDTH / max(len(shown), 8), max(shown)
    bars = "".join(_bar(index, first + index, count, step, most) for index, count in enumerate(shown))
    picture = (
        f'<svg class="lengths" role="img" aria-label="rows by length" viewBox="0 0 {_BAR_WIDTH:g} {_BAR_HEIGHT + 40:g}">'
        f"{bars}</svg>"
    )
    return picture + paragraph("Characters of a row, in steps that double; above each bar the number of rows.", "faint")


def _bar(index: int, bits: int, count: int, step: float, most: int) -> str:
    height = _BAR_HEIGHT * count / most
    left, top = index * step, 16 + _BAR_HEIGHT - height
    low, high = (1 << bits >> 1, (1 << bits) - 1) if bits else (0, 0)
    middle = left + (step - _GAP) / 2
    label = f"{low:,}+" if high else "0"
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{step - _GAP:.1f}" height="{height:.1f}">'
        f"<title>{low:,} to {high:,} characters: {count:,} rows</title></rect>"
        f'<text x="{middle:.1f}" y="{top - 4:.1f}" text-anchor="middle">{count:,}</text>'
        f'<text x="{middle:.1f}" y="{_BAR_HEIGHT + 34:.1f}" text-anchor="middle">{label}</text>'
    )


def _blind(diagnosis: Diagnosis) -> str:
    lines = [Line([name, about.blind]) for name, about in sorted(diagnosis.checks.items())]
    return table(["check", "does not see"], lines, words=2)


def _extent(kind: Kind, diagnosis: Diagnosis) -> str:
    rows = "1 row" if len(kind.rows) == 1 else f"{len(kind.rows):,} rows"
    return f"{rows}, {_share(kind, diagnosis)}" if kind.rows else "of the whole set"


def _share(kind: Kind, diagnosis: Diagnosis) -> str:
    return rounded_share(len(kind.rows) / diagnosis.num_rows)


def _percent(part: float) -> str:
    # Never round up to a health that the data do not have.
    return "100\u00a0%" if part == 1 else f"{int(part * 1000) / 10:.1f}\u00a0%"

"""The runs in a folder, and how far each has come."""

from pathlib import Path

from rich.table import Table

from luthier.core.journal import entries
from luthier.core.rundir import STAGES, RunDir
from luthier.core.types import JsonObject
from luthier.recipes.verdict_file import read_verdict


def runs(folder: Path) -> list[JsonObject]:
    """Return one object for every run in `folder`, newest first; an absent folder has none."""
    if not folder.is_dir():
        return []
    found = [RunDir(path) for path in folder.iterdir() if (path / "config.yaml").exists()]
    found.sort(key=lambda run: run.config.stat().st_mtime, reverse=True)
    return [_facts(run) for run in found]


def table(folder: Path) -> Table | str:
    """Return the runs as a table, or a sentence when there are none."""
    listed = runs(folder)
    if not listed:
        return f"no runs in {folder}; start one with: luthier run DATA"
    out = Table("run", "stage", "started", "outcome", "tuned score", box=None, header_style="bold")
    for run in listed:
        out.add_row(*(str(run[key]) for key in ("run", "stage", "started", "outcome", "score")))
    return out


def _facts(run: RunDir) -> JsonObject:
    events = list(entries(run.events))
    done = [str(entry["stage"]) for entry in events if entry["event"] == "stage_done"]
    rest = [stage for stage in STAGES if stage not in done]
    facts: JsonObject = {
        "run": str(run.path), "stage": f"at {rest[0]}" if rest else "finished",
        "started": str(events[0]["time"])[:16].replace("T", " ") if events else "", "outcome": "", "score": "",
    }  # fmt: skip
    if run.verdict.exists():
        verdict = read_verdict(run)
        arms = verdict["arms"]
        assert isinstance(arms, dict)
        tuned = arms.get("tuned")
        facts["outcome"] = verdict["outcome"]
        facts["score"] = f"{tuned['score']:.4f}" if isinstance(tuned, dict) else ""
    return facts

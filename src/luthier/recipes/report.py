"""Write the report of a finished run from the files in its folder."""

from luthier.core.journal import entries
from luthier.recipes.job import Job
from luthier.recipes.verdict_file import read_verdict
from luthier.verdict.answers import answer_rows, read_answers
from luthier.verdict.report import ReportInputs, write_report


def report_stage(job: Job) -> None:
    """Write report.html."""
    verdict = read_verdict(job.run)
    arms = verdict["arms"]
    assert isinstance(arms, dict)
    answers = {name: answer_rows(read_answers(job.run.arm_answers(name))) for name in arms}
    gap = verdict.get("train_score")
    inputs = ReportInputs(
        answers={} if verdict.get("lower_is_better") else answers,
        metrics=list(entries(job.run.metrics)),
        settings=job.run.config.read_text(encoding="utf-8"),
        model=job.folder.name,
        grader_reason=_last(job, "grader_chosen", "reason"),
        notes={
            str(entry["arm"]): str(entry["note"])
            for entry in entries(job.run.events)
            if entry["event"] == "arm_described"
        },
        on_training=gap if isinstance(gap, dict) else None,
    )
    write_report(job.run.report, verdict, inputs)
    job.voice.say(f"report: {job.run.report}")


def _last(job: Job, event: str, key: str) -> str:
    found = [str(entry[key]) for entry in entries(job.run.events) if entry["event"] == event]
    return found[-1] if found else ""

"""The command line itself: wrong usage is 2 with a message, results go to standard output, words to standard error."""

import subprocess
import sys

import pytest
from command import LUTHIER, in_own_process, luthier
from rich.console import Console

from luthier.cli.screen import show
from luthier.verdict.table import terminal_table

VERDICT = {
    "grader": "json_fields", "because": "The tuned model beats the classical model.",
    "arms": {
        name: {
            "score": score, "interval": [score - 0.02, score + 0.02], "tokens_in": 123456, "tokens_out": 65432, "seconds": 61.5,
            "metrics": {"json_valid": 1.0, "exact": 0.9, "f1": score, "keys": {"intent": 0.98}, "groups": {"slots": {"f1": 0.93}}},
        }
        for name, score in (("classical", 0.71), ("zero_shot", 0.11), ("tuned", 0.95))
    },
    "differences": [{"a": "tuned", "b": "classical", "value": 0.24, "interval": [0.2, 0.28], "outcome": "better"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--no-such-option"), "No such option: --no-such-option"),
        (("run", "data.jsonl", "--model"), "requires an argument"),
        (("resume",), "Missing argument 'RUN'"),
        (("export", "run"), "Missing option '--format'"),
        (("rum",), "No such command 'rum'"),
        (("resume", "one", "two"), "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str):
    called = luthier(*arguments)
    assert called.code == 2
    assert words in called.err
    assert "Traceback" not in called.err and called.out == ""


def test_wrong_usage_in_a_process_of_its_own():
    called = in_own_process("train", "--set", "a=b")
    assert (called.code, called.out) == (2, "")
    assert "Missing argument 'FILE.yaml'" in called.err


@pytest.mark.parametrize(
    "command", ["run", "train", "resume", "compare", "chat", "export", "runs", "show", "doctor", "schema"]
)
def test_every_command_has_help(command: str):
    called = luthier(command, "--help")
    assert called.code == 0
    assert f"luthier {command}" in called.out or f"{command} [OPTIONS]" in called.out


def test_an_unexpected_error_is_1_with_its_trace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("luthier.recipes.doctor.doctor", lambda: 1 / 0)
    called = luthier("doctor")
    assert called.code == 1
    assert "ZeroDivisionError" in called.err and "luthier: failed: " in called.err


def test_a_reader_that_goes_away_is_no_failure_with_a_trace():
    process = subprocess.Popen([*LUTHIER, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait(timeout=60)


def test_the_verdict_table_is_whole_in_a_pipe_and_says_its_sentence_once(capsys: pytest.CaptureFixture[str]):
    show(terminal_table(VERDICT))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "…" not in printed
    for words in ("classical model", "95.0 %", "93.0 to 97.0 %", "123,456", "65,432", "+24.0 points", "better"):
        assert words in printed
    assert printed.count(VERDICT["because"]) == 1
    assert max(map(len, printed.splitlines())) > 80


def test_at_a_terminal_the_table_keeps_to_its_width():
    console = Console(width=70, record=True, file=sys.stderr)
    console.print(terminal_table(VERDICT))  # type: ignore[arg-type]
    assert max(map(len, console.export_text().splitlines())) <= 70


def test_a_reader_who_has_seen_enough_ends_the_command_quietly():
    shown = subprocess.Popen((*LUTHIER, "schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert shown.stdout is not None and shown.stderr is not None
    shown.stdout.close()
    assert shown.stderr.read() == ""
    assert shown.wait() == 1

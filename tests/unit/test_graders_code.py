"""Code of a model runs in a process that can neither reach out nor leave anything behind."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.core.errors import SettingsError
from luthier.graders import code_runs
from luthier.graders.measures.sandbox import Limits, Outcome, Task, ensure_isolation, execute, isolation_problem

TESTS = "assert add(1, 2) == 3"
needs_isolation = pytest.mark.skipif(isolation_problem() is not None, reason=f"no isolation: {isolation_problem()}")
pytestmark = needs_isolation


def ran(code: str, *, seconds: int = 10, megabytes: int = 1024) -> Outcome:
    return execute(Task(code), Limits(seconds, megabytes))


@pytest.mark.parametrize(
    ("completion", "fault"),
    [
        ("def add(a, b):\n    return a + b", None),
        ("Here you are:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.", None),
        ("```\nadd = lambda a, b: a + b", None),
        ("def add(a, b):\n    return a - b", "AssertionError: "),
        ("def add(a, b) return", "SyntaxError: "),
        ("", "NameError: name 'add' is not defined"),
        ("import sys; sys.exit(0)", "ended before its end, with code 0"),
        ("import os; os._exit(0)", "ended before its end, with code 0"),
        ('print(\'{"nonce": ""}\'); import os; os._exit(0)', "ended before its end"),
        ("x = '\ud800'", "UnicodeEncodeError: "),
        ("\0", "ended before its end|ValueError|SyntaxError"),
    ],
)
def test_code_is_right_when_its_tests_come_to_their_end(completion: str, fault: str | None) -> None:
    grade = code_runs.Grader().grade("", completion, TESTS)
    assert grade.score == float(fault is None)
    found = grade.marks["fault"]
    assert found is None if fault is None else any(str(found).startswith(word) for word in fault.split("|")), found


def test_tests_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "tests.py").write_text(TESTS)
    grader = code_runs.Grader(tests=tmp_path / "tests.py")
    assert not grader.needs_answer
    assert grader.grade("", "def add(a, b): return a + b", "").score == 1
    with pytest.raises(SettingsError, match="cannot be read"):
        code_runs.Grader(tests=tmp_path / "none.py")


def test_faults_are_counted_by_their_kind() -> None:
    grader = code_runs.Grader()
    grades = [grader.grade("", code, TESTS) for code in ("", "x", "add = lambda a, b: 3")]
    assert grader.metrics(grades) == {"passed": pytest.approx(1 / 3), "faults": {"NameError": 2}}


def test_a_machine_in_reach_is_out_of_reach_for_the_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 1).close()
        outcome = ran(f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)")
    assert outcome.fault is not None and "unreachable" in outcome.fault


def test_a_socket_file_is_out_of_reach_too(tmp_path: Path) -> None:
    """A socket file is reached without any network; those in the usual places are covered."""
    # A place that holds Python itself cannot be covered, as where the clone lies under /tmp.
    places = [place for place in ("/tmp", "/dev/shm") if not sys.prefix.startswith(f"{place}/")]
    file = Path(places[0]) / f"luthier-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(file))
        server.listen()
        try:
            outcome = ran(f"import socket; socket.socket(socket.AF_UNIX).connect({str(file)!r})")
        finally:
            file.unlink()
    assert outcome.fault is not None and outcome.fault.startswith("FileNotFoundError")


def test_nothing_can_be_written_but_in_an_empty_folder_that_goes(tmp_path: Path) -> None:
    mine = Path.home() / f".luthier-test-{os.getpid()}"
    outcome = ran(f"open({str(mine)!r}, 'w')")
    assert outcome.fault is not None and not mine.exists()
    victim = Path(__file__)
    before = victim.read_bytes()
    assert ran(f"open({str(victim)!r}, 'a').write('x')").fault is not None
    assert victim.read_bytes() == before
    assert (
        ran("import os; assert os.listdir() == []; open('x', 'w').write('y'); assert os.listdir() == ['x']").fault
        is None
    )


def test_the_code_has_no_rights_and_sees_no_other_process() -> None:
    assert ran("import os; assert [n for n in os.listdir('/proc') if n.isdigit()] == ['1']").fault is None
    assert ran("assert 'CapEff:\\t0000000000000000' in open('/proc/self/status').read()").fault is None
    assert ran(f"import os; os.kill({os.getpid()}, 15)").fault is not None
    assert (
        ran("import os; assert not [k for k in os.environ if 'TOKEN' in k or 'KEY' in k or 'LUTHIER' in k]").fault
        is None
    )


def test_time_and_memory_are_limited() -> None:
    assert ran("while True: pass", seconds=1).fault == "not done after 1 s"
    assert str(ran("x = bytearray(2 << 30)", megabytes=512).fault).startswith("MemoryError")
    assert str(ran("open('x', 'wb').write(bytes(40 << 20))").fault).startswith(("OSError", "ended"))


def test_a_process_that_the_code_leaves_behind_ends_with_it() -> None:
    name = f"left{os.getpid()}"
    code = f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, {name!r}.encode(), 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(0.05)
{{}}
"""
    assert ran(code.format("")).fault is None
    assert ran(code.format("while True: pass"), seconds=1).fault == "not done after 1 s"
    running = subprocess.run(["ps", "-eo", "comm"], capture_output=True, text=True, check=True).stdout
    assert name not in running


def test_what_a_child_of_the_code_comes_to_is_not_the_answer() -> None:
    fork = "import os\nchild = os.fork()\n"
    assert ran(fork + "if child: os.waitpid(child, 0)").fault is None
    assert ran(fork + "if child: os.waitpid(child, 0)\nassert not child").fault == "AssertionError: "
    assert ran(fork + "if child: os.waitpid(child, 0)\nassert child").fault is None


def test_a_flood_of_words_goes_nowhere() -> None:
    assert (
        ran("import sys\nfor _ in range(200): sys.stdout.write('x' * 100_000); sys.stderr.write('y' * 100_000)").fault
        is None
    )


def test_a_value_comes_back() -> None:
    outcome = execute(Task("x = 2", "y = x * z", "y", {"z": 3}), Limits())
    assert outcome == Outcome(None, 6.0)
    assert execute(Task("y = 'text'", "", "y"), Limits()) == Outcome(None, None)


def test_without_isolation_code_runs_only_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal that a machine without namespaces gets; the platform is what `isolation_problem` asks first."""
    monkeypatch.setattr(sys, "platform", "darwin")
    isolation_problem.cache_clear()
    try:
        with pytest.raises(SettingsError, match=r"darwin has no namespaces.*unsafe=true"):
            code_runs.Grader()
        ensure_isolation("code_runs", unsafe=True)
        assert code_runs.Grader(unsafe=True).grade("", "def add(a, b): return a + b", TESTS).score == 1
        assert execute(Task("import os; assert os.getpid() != 1"), Limits(isolated=False)).fault is None
    finally:
        isolation_problem.cache_clear()

"""Which base model: each is trained shortly on the same rows and judged on validation rows, and the test stays closed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import luthier as command
from command import needs_starter, refused
from small_run import SETTINGS, WEIGHTS, rows

from luthier.config.settings import ModelSettings
from luthier.core.journal import entries
from luthier.core.rundir import RunDir
from luthier.data.store import count_stored, read_stored
from luthier.models.license import license_of
from luthier.models.load import find_model
from luthier.verdict.bases import recommended
from luthier.verdict.stats import Measure, Sample

FLAGS = [
    f"--set={key}={json.dumps(value)}"
    for key, value in {**SETTINGS, "split.validation_share": 0.2, "split.test_rows": 6}.items()
]


@needs_starter
def test_models_are_compared_on_validation_rows_and_the_test_part_stays_closed(tmp_path: Path):
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    twin = shutil.copytree(WEIGHTS.parent, tmp_path / "twin")
    (twin / "README.md").write_text("---\nlicense: mit\n---\n# A twin\n")
    asked = ("bases", data, "--model", "starter", "--model", twin, "--rows", 9, "--input", "text", "--output", "queue",
             "--out", tmp_path / "out", "--json", *FLAGS)  # fmt: skip
    called = command(*asked)
    assert called.code == 0, called.err
    found = json.loads(called.out)
    one, other = found["models"].values()
    assert one["score"] == other["score"], "the same weights, the same rows, the same seed"
    assert found["differences"][0]["value"] == 0 and found["undecided"] == []
    assert found["recommended"] == "starter" and "The test part was not opened" in found["because"]
    assert [entry["license"] for entry in found["models"].values()] == ["apache-2.0", "mit"], "as their cards say"
    assert found["trained_rows"] == 9
    sealed = {json.loads(line)["text"] for line in (tmp_path / "out" / "rows" / "test.jsonl").read_text().splitlines()}
    for entry in found["models"].values():
        run = RunDir(Path(entry["run"]))
        assert count_stored(run.part("test")) == 0 and not run.verdict.exists()
        seen = {
            row.content.messages[0].content for part in ("train", "validation") for row in read_stored(run.part(part))
        }
        assert sealed and not sealed & seen
        assert not any(event["event"] == "test_declared" for event in entries(run.events))
    assert not list(tmp_path.rglob("looks.jsonl")), "nobody has looked at the test"

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    again = command(*asked)
    assert again.code == 0 and json.loads(again.out) == found
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is trained or asked again"


def test_one_model_is_nothing_to_choose_from(tmp_path: Path):
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    refused(
        command("bases", data, "--model", "starter", "--model", "starter", "--out", tmp_path / "out"),
        "two different models",
    )
    assert not (tmp_path / "out").exists()


def sample(num_rows: int) -> Sample:
    return Sample(np.arange(num_rows), 300, 0, Measure(margin=0.02))


def test_the_smallest_model_that_is_not_worse_than_the_best_is_recommended():
    right = np.ones(400)
    small, large = right.copy(), right.copy()
    small[:2], large[:1] = 0, 0
    tiny = right.copy()
    tiny[:100] = 0
    found = recommended(
        {"large": large, "small": small, "tiny": tiny}, {"large": 100, "small": 10, "tiny": 1}, sample(400)
    )
    assert (found.model, found.best, found.undecided) == ("small", "large", ())
    assert found.differences["tiny"].outcome == "worse"


def test_a_smaller_model_that_few_rows_cannot_tell_from_the_best_is_named_undecided():
    large, small = np.ones(30), np.ones(30)
    small[:3] = 0
    found = recommended({"small": small, "large": large}, {"small": 1, "large": 100}, sample(30))
    assert (found.model, found.undecided) == ("large", ("small",))
    assert found.more_rows is not None and found.more_rows > 0


@needs_starter
@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\ntext", "mit"), ("# no front matter\nlicense: mit", None), ("---\n: [\n---\n", None),
        ("---\ntags: [a]\n---\n", None), (None, None),
    ],
)  # fmt: skip
def test_the_licence_is_the_one_that_the_models_card_states(tmp_path: Path, card: str | None, stated: str | None):
    model = shutil.copytree(WEIGHTS.parent, tmp_path / "model")
    (model / "README.md").unlink(missing_ok=True)
    if card is not None:
        (model / "README.md").write_text(card)
    assert license_of(find_model(ModelSettings(name=str(model)))) == stated

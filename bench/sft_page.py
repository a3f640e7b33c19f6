"""Write what bench/sft.py measured on a CPU into docs/performance.md, as a table, and as a plot beside it.

    python bench/sft_page.py [bench/results/sft.json]

`with_peers` and `drawn` are functions of the results alone: a test holds the page to them.
"""

import json
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pages import table, with_block

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "bench" / "results" / "sft.json"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "sft.svg"
_MODELS = {"llama-135m": "Llama shape, 135M", "starter": "the starter"}
_METHODS = {"lora": "LoRA", "full": "full tuning"}
_WHO = {
    "luthier tree": "Luthier, tree", "luthier packed": "Luthier, packed", "trl padded": "TRL, padded", "trl packed": "TRL, packed",
    "llamafactory": "LLaMA-Factory", "llamafactory open": "LLaMA-Factory, no checkpointing", "litgpt": "litgpt",
}  # fmt: skip
_LINE, _LEFT, _BAR, _TITLE = 20, 230, 210, 34


def with_peers(page: str, found: dict[str, Any]) -> str:
    """Return the page with the table of all cases and, above it, the machine."""
    rates = found["gflops"]
    said = (
        f"{found['processor']}, {found['cores']} cores, torch {found['torch']}, transformers {found['transformers']} for Luthier; products of "
        f"matrices run at {rates['torch.bfloat16']} GFLOP/s in bfloat16 and {rates['torch.float32']} in float32. {found['steps']} timed steps a process behind one that warms up."
    )
    picture = "![Rows a second and peak memory of every candidate as bars, case by case](images/sft.svg)"
    return with_block(page, "peers", f"{said}\n\n{table([_HEAD, *_lines(found)])}\n\n{picture}")


_HEAD = ["step", "who", "rows/s", "of Luthier's tree", "real tokens/s", "processor seconds a row", "peak memory", "first loss", "rounds"]  # fmt: skip


def _title(case: dict[str, Any]) -> str:
    return f"{_MODELS[case['model']]}, {_METHODS[case['method']]}, {case['shared_tokens']} shared tokens ({case['tokens_a_row']:.0f} a row)"


def _lines(found: dict[str, Any]) -> Iterator[list[str]]:
    for case in found["results"]:
        best = case["candidates"].get("luthier tree", {}).get("rows_per_second")
        for name, said in case["candidates"].items():
            if "failed" in said:
                yield [_title(case), _WHO[name], f"failed: {said['failed'][:80]}", *[""] * 6]
                continue
            rate = said["rows_per_second"]
            yield [
                _title(case), _WHO[name], f"{rate:.2f}", f"{rate / best:.2f}" if best else "", f"{said['tokens_per_second']:,.0f}",
                f"{said['cpu_seconds_per_row']:.3f}", f"{said['peak_gib']:.2f} GiB", f"{said['first_loss']:.4f}", str(said["rounds"]),
            ]  # fmt: skip


def drawn(found: dict[str, Any]) -> str:
    """Return rows a second and memory of every candidate as bars, a group for each case, each group by its own longest bar."""
    parts: list[str] = []
    top = 24
    for case in found["results"]:
        fine = {name: said for name, said in case["candidates"].items() if "failed" not in said}
        parts.append(f'<text x="8" y="{top}" font-weight="bold">{escape(_title(case))}</text>')
        for name, said in fine.items():
            top += _LINE
            color = "#2f6f4f" if name.startswith("luthier") else "#9a9a9a"
            parts.append(f'<text x="8" y="{top}">{escape(_WHO[name])}</text>')
            for left, key, unit in ((_LEFT, "rows_per_second", "rows/s"), (_LEFT + _BAR + 110, "peak_gib", "GiB")):
                longest = max(one[key] for one in fine.values())
                width = max(1, round(_BAR * said[key] / longest))
                parts.append(f'<rect x="{left}" y="{top - 11}" width="{width}" height="13" fill="{color}"/>')
                parts.append(f'<text x="{left + width + 6}" y="{top}">{said[key]:.2f} {unit}</text>')
        top += _TITLE
    width = _LEFT + 2 * (_BAR + 110)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="white"/>', *parts, "</svg>"]) + "\n"


def main() -> None:
    """Write the page and the plot."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULT
    found = json.loads(file.read_text(encoding="utf-8"))
    PLOT.write_text(drawn(found), encoding="utf-8")
    PAGE.write_text(with_peers(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()

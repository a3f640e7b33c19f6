"""The part of the report that says what the arms cost, what training earns back, and how well the plan predicted."""

from collections.abc import Callable

from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.conclude import arm_name
from luthier.verdict.figures import duration, memory, number, objects
from luthier.verdict.page import Line, paragraph, section, table


def what_it_cost(verdict: JsonObject, arms: JsonObject) -> str:
    """Return the section on costs."""
    costs = objects(verdict.get("costs"))
    headings = ["arm", "tokens in", "tokens out", "time, all rows", "requests/s in batches", "latency p50", "p95"]
    if costs:
        headings.append(f"{costs['currency']} per 1,000")
    lines = [Line(_cells(name, arm, bool(costs)), ours=name == "tuned") for name, arm in arms.items()]
    return section(
        "What it cost", table(headings, lines), paragraph(_measured(arms), "faint"), _earned_back(costs),
        _predicted(objects(verdict["plan"]), objects(verdict["measured"])),
    )  # fmt: skip


def money(amount: float) -> str:
    """Write an amount of money: `0.0012`, `3.40`, `1,250.00`."""
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.2g}"


def _cells(name: str, arm: JsonValue, priced: bool) -> list[str]:
    cost = objects(objects(arm).get("cost"))
    cells = [arm_name(name), *(f"{number(arm, side):,.0f}" for side in ("tokens_in", "tokens_out"))]
    cells.append(duration(number(arm, "seconds")))
    cells.append(_written(cost.get("requests_per_second"), lambda rate: f"{rate:,.3g}"))
    cells += [_written(cost.get(key), duration) for key in ("latency_p50", "latency_p95")]
    return [*cells, _written(cost.get("money_per_1000"), money)] if priced else cells


def _written(value: JsonValue, write: Callable[[float], str]) -> str:
    return write(float(value)) if isinstance(value, int | float) else ""


def _measured(arms: JsonObject) -> str:
    costs = [objects(objects(arm).get("cost")) for arm in arms.values()]
    timed = max((number(cost, "timed_alone") for cost in costs if cost), default=0)
    if not timed:
        return ""
    return (
        f"Latency is that of {timed:.0f} requests sent one by one; the rate is that of all test rows in batches. "
        "Both were measured on this machine."
    )


def _earned_back(costs: JsonObject) -> str:
    if not costs:
        return ""
    currency, ours, theirs = costs["currency"], arm_name(str(costs["arm"])), arm_name(str(costs["against"]))
    spent = f"The training cost {money(number(costs, 'training'))} {currency}."
    if costs["earned_back_after"] is None:
        return paragraph(
            f"{spent} A request to the {ours} costs no less than one to the {theirs}, so it is never earned back."
        )
    return paragraph(
        f"{spent} Against the {theirs} the {ours} saves {money(number(costs, 'saved_per_1000'))} {currency} in 1,000 requests, "
        f"which has earned the training back after {number(costs, 'earned_back_after'):,.0f} requests."
    )


def _predicted(plan: JsonObject, measured: JsonObject) -> str:
    written = {
        "seconds": ("training time", duration),
        "memory_bytes": ("memory", memory),
        "tokens_per_second": ("tokens per second", lambda value: f"{value:,.0f}"),
    }
    lines = [
        Line([words, *(write(number(side, key)) if side.get(key) is not None else "" for side in (plan, measured))])
        for key, (words, write) in written.items()
        if plan.get(key) is not None or measured.get(key) is not None
    ]
    return table(["the plan against what happened", "predicted", "measured"], lines)

"""A forecast for a person: what is trained, the bytes here by what they are for, and one line for each machine."""

from rich.console import Group, RenderableType
from rich.table import Table

from luthier.core.types import JsonObject, JsonValue
from luthier.recipes.fitting import as_flags
from luthier.recipes.plan import duration

_GIB = 2**30


def as_table(found: JsonObject) -> RenderableType:
    """Draw what `luthier plan` found."""
    machines = [_object(machine) for machine in _list(found["machines"])]
    table = Table(box=None, pad_edge=False)
    priced = any(machine["money"] is not None for machine in machines)
    for name in ("machine", "usable", "needs", "fits", "time", *(["money"] if priced else [])):
        table.add_column(name, justify="left" if name in ("machine", "fits") else "right")
    for machine in machines:
        table.add_row(*_line(machine, priced))
    advice = [str(machine["advice"]) for machine in machines[:1] if machine["advice"]]
    advice += [f"{_object(machine['compiling'])['words']} (here)" for machine in machines[:1] if machine["compiling"]]
    if more := _object(found["training"])["trainings_for_the_proof"]:
        advice.append(f"times are those of the model that ships; {more} trainings more prove it, about as long each")
    return Group(
        "\n".join(_head(found)),
        "",
        table,
        "",
        *advice,
        "times of GPUs are counted from published figures, not measured",
    )


def _head(found: JsonObject) -> list[str]:
    model, data, training = (_object(found[key]) for key in ("model", "data", "training"))
    memory = _object(_object(_list(found["machines"])[0])["memory"])
    method = f"LoRA rank {training['rank']}" if training["method"] == "lora" else "every weight"
    return [
        f"model     {model['name']}: {_millions(model['weights'])} weights, {_millions(model['trained_weights'])} trained ({method})",
        f"rows      {data['rows']:,} training rows, {data['tokens_per_epoch']:,} tokens, {data['trained_tokens_per_epoch']:,} of them trained; "
        f"{training['epochs']:g} epochs in {training['steps']:,} steps",
        f"computed  {training['processed_tokens']:,} tokens ({data['processed_per_token']} for each token of a row, laid out {training['layout']}), "
        f"{float(str(training['flops'])):.3g} operations",
        "memory    " + ", ".join(f"{name} {_gib(num)}" for name, num in memory.items()) + " (here)",
        f"answers   {_gib(found['kv_bytes'])} for the cache of the model that answers the test rows, {_gib(found['packed_bytes'])} for its packed weights",
        f"disk      {_gib(found['disk_bytes'])} for checkpoints and package, {_gib(found['free_disk_bytes'])} free",
    ]  # fmt: skip


def _line(machine: JsonObject, priced: bool) -> list[str]:
    way = machine["with"]
    fits = "no" if way is None else "yes" if machine["fits"] else "not as it is"
    if way:
        fits += f", with {as_flags(_object(way))}"
    seconds, money = machine["seconds"], machine["money"]
    return [
        str(machine["machine"]), _gib(machine["usable_bytes"]), _gib(machine["memory_bytes"]), fits,
        "" if seconds is None else duration(float(str(seconds))), *([f"{float(str(money)):,.2f}" if money is not None else ""] if priced else []),
    ]  # fmt: skip


def _object(value: JsonValue) -> JsonObject:
    assert isinstance(value, dict)
    return value


def _list(value: JsonValue) -> list[JsonValue]:
    assert isinstance(value, list)
    return value


def _gib(value: JsonValue) -> str:
    return f"{float(str(value)) / _GIB:,.2f} GiB"


def _millions(value: JsonValue) -> str:
    return f"{float(str(value)) / 1e6:,.1f}M"

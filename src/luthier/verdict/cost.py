"""What an arm costs: tokens, latency and rate as measured here, and money at the user's own prices.

A price file is YAML. Prices are per million tokens (an endpoint) or per hour of a machine (what runs here); both add up.

    currency: EUR
    per_hour: 0.80            # the machine that every arm below without a price of its own runs on, and that trains
    arms:
      endpoint: {input_per_million: 0.25, output_per_million: 1.00}
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from luthier.config.load import problems_of, read_yaml
from luthier.config.settings import Section
from luthier.core.errors import SettingsError
from luthier.core.types import JsonObject, JsonValue
from luthier.verdict.figures import objects

Money = Annotated[float, Field(ge=0)]
_HOUR = 3600
_MILLION = 1_000_000


class ArmPrice(Section):
    """What one arm costs."""

    input_per_million: Money = 0.0
    """A million tokens of prompts."""
    output_per_million: Money = 0.0
    """A million tokens of answers."""
    per_hour: Money = 0.0
    """An hour of the machine that it runs on."""


class Prices(Section):
    """The prices of a file."""

    currency: str = "USD"
    """The name of the money, as it is written behind amounts."""
    per_hour: Money = 0.0
    """An hour of the machine that trains, and that runs every arm without a price of its own."""
    arms: dict[str, ArmPrice] = Field(default_factory=dict)
    """Prices of single arms, by name."""

    def of_arm(self, name: str) -> ArmPrice:
        """Return what an arm costs."""
        return self.arms.get(name, ArmPrice(per_hour=self.per_hour))


def read_prices(path: Path) -> Prices:
    """Return the prices in a YAML file; raise SettingsError that names every fault."""
    if not path.is_file():
        raise SettingsError(f"compare.price: there is no file {path} with prices.")
    try:
        return Prices.model_validate(read_yaml(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: " + "; ".join(problems_of(error, Prices))) from error


def cost_of_arm(arm: JsonObject, num_rows: int, alone: Sequence[float], price: ArmPrice | None) -> JsonObject:
    """Return what one request costs: mean tokens, latency of requests asked one by one, rate in batches, money.

    `arm` holds the sums of tokens and seconds over the rows, `alone` the seconds of single requests; without them, and
    without a price, the figure is None.
    """
    tokens_in, tokens_out, seconds = (
        float(str(arm[key])) / max(1, num_rows) for key in ("tokens_in", "tokens_out", "seconds")
    )
    p50, p95 = (float(np.quantile(alone, share)) if len(alone) else None for share in (0.5, 0.95))
    return {
        "tokens_in": tokens_in, "tokens_out": tokens_out, "latency_p50": p50, "latency_p95": p95,
        "timed_alone": len(alone), "requests_per_second": 1 / seconds if seconds else None,
        "money_per_1000": None if price is None else 1000 * _money(price, tokens_in, tokens_out, seconds),
    }  # fmt: skip


def earned_back(
    arms: Mapping[str, JsonValue], tuned: str, rival: str, prices: Prices, training_seconds: float
) -> JsonObject:
    """Return what the training cost and after how many requests `tuned` has earned it back against `rival`; None is never."""
    ours, theirs = (float(str(objects(objects(arms[name])["cost"])["money_per_1000"])) for name in (tuned, rival))
    training, saved = training_seconds / _HOUR * prices.per_hour, theirs - ours
    requests = math.ceil(1000 * training / saved) if saved > 0 else None
    return {
        "currency": prices.currency, "training": training, "arm": tuned, "against": rival, "saved_per_1000": saved,
        "earned_back_after": requests,
    }  # fmt: skip


def _money(price: ArmPrice, tokens_in: float, tokens_out: float, seconds: float) -> float:
    of_tokens = (tokens_in * price.input_per_million + tokens_out * price.output_per_million) / _MILLION
    return of_tokens + seconds / _HOUR * price.per_hour

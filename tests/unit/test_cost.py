"""Costs follow from what was counted and the user's own prices."""

from pathlib import Path

import pytest

from luthier.core.errors import SettingsError
from luthier.verdict.cost import ArmPrice, Prices, cost_of_arm, earned_back, read_prices

ARM = {"tokens_in": 20_000, "tokens_out": 5_000, "seconds": 50.0}


def test_a_request_costs_its_share_of_tokens_and_time() -> None:
    price = ArmPrice(input_per_million=2.0, output_per_million=10.0, per_hour=3.6)
    cost = cost_of_arm(ARM, 100, [0.5, 1.0, 3.0], price)
    assert (cost["tokens_in"], cost["tokens_out"], cost["requests_per_second"]) == (200, 50, 2.0)
    assert cost["latency_p50"] == 1.0 and cost["latency_p95"] == pytest.approx(2.8)
    assert cost["money_per_1000"] == pytest.approx(1000 * (200 * 2e-6 + 50 * 10e-6 + 0.5 * 0.001))


def test_what_was_not_measured_or_priced_is_none() -> None:
    cost = cost_of_arm(ARM, 100, [], None)
    assert cost["latency_p50"] is None and cost["money_per_1000"] is None and cost["timed_alone"] == 0


def test_an_arm_without_a_price_of_its_own_runs_on_the_machine() -> None:
    prices = Prices(per_hour=2.0, arms={"endpoint": ArmPrice(input_per_million=1.0)})
    assert prices.of_arm("tuned").per_hour == 2.0
    assert prices.of_arm("endpoint").per_hour == 0.0


def test_training_is_earned_back_by_what_each_request_saves() -> None:
    arms = {"tuned": {"cost": {"money_per_1000": 0.1}}, "endpoint": {"cost": {"money_per_1000": 0.6}}}
    found = earned_back(arms, "tuned", "endpoint", Prices(currency="EUR", per_hour=1.5), 7200)
    assert found["training"] == 3.0 and found["earned_back_after"] == 6000 and found["currency"] == "EUR"
    assert earned_back(arms, "endpoint", "tuned", Prices(per_hour=1.5), 7200)["earned_back_after"] is None


def test_a_price_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("currency: EUR\nper_hour: 0.8\narms:\n  endpoint: {input_per_million: 0.25}\n")
    prices = read_prices(path)
    assert prices.arms["endpoint"].input_per_million == 0.25 and prices.currency == "EUR"
    path.write_text("per_hours: 1\narms: {tuned: {per_hour: -1}}\n")
    with pytest.raises(SettingsError, match=r"(?s)per_hours.*per_hour'?|arms\.tuned\.per_hour"):
        read_prices(path)
    for text in ("a: [", "- 1"):
        path.write_text(text)
        with pytest.raises(SettingsError, match=r"prices\.yaml"):
            read_prices(path)
    with pytest.raises(SettingsError, match="nowhere"):
        read_prices(tmp_path / "nowhere.yaml")

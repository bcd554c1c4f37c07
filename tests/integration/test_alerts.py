"""Alert rules: valid, fired in unit tests of the rules, about metrics that exist, and each with a runbook."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.errors import LocalStackError
from deploy.local.prometheus import promtool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
TESTS = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def expectations(*, fires: bool) -> set[str]:
    """Alerts that some unit test expects to fire, or to be quiet."""
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    return {case["alertname"] for case in cases if bool(case["exp_alerts"]) is fires}


def test_the_rules_are_valid() -> None:
    """Promtool finds no fault, and sees all of them."""
    assert f"{len(RULES)} rules found" in promtool(["check", "rules", "alerts.yml"], FOLDER)


def test_each_alert_fires_when_it_should_and_is_quiet_before() -> None:
    """The unit tests of the rules pass, and leave no alert out."""
    assert "SUCCESS" in promtool(["test", "rules", "alerts.test.yml"], FOLDER)
    names = {rule["alert"] for rule in RULES}
    assert expectations(fires=True) == names
    assert expectations(fires=False) == names


def test_a_rule_that_does_not_fire_is_found(tmp_path: Path) -> None:
    """The unit tests of the rules can fail."""
    rules = (FOLDER / "alerts.yml").read_text().replace("heimdall_consuming", "heimdall_consumes")
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "alerts.test.yml").write_text((FOLDER / "alerts.test.yml").read_text())
    with pytest.raises(LocalStackError, match="HeimdallNobodyConsumes"):
        promtool(["test", "rules", "alerts.test.yml"], tmp_path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_runbook(rule: dict[str, Any]) -> None:
    """The annotation leads to a section that says what it means, where to look and what to do."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert (ROOT / page).samefile(ROOT / "docs/operations.md")
    assert anchor == rule["alert"].lower()
    section = re.search(rf"^### {rule['alert']}\n(.*?)(?=^##)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert all(f"**{part}**" in section[1] for part in ("Means", "Look", "Do"))


def test_no_runbook_is_left_over() -> None:
    """No section is about an alert that is gone."""
    sections = set(re.findall(r"^### (Heimdall[A-Z]\w+)$", OPERATIONS, re.MULTILINE))
    assert sections == {rule["alert"] for rule in RULES}

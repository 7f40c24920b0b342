"""The holder of one token cannot touch the leases of another one, nor lease outside of its labels."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from llm_exporter.config.model import Auth, Budget, Config, Token
from llm_exporter.service.app import make_app
from llm_exporter.service.ledger.sqlite import SqliteLedger

DOLLAR = 10**12
VICTIM, ATTACKER = "victim-0123456789abcdef", "attacker-0123456789abcdef"
PROCESS = "host:1:f00d"


def budget(name: str, **more: Any) -> Budget:
    return Budget.model_validate({"name": name, "period": "total", "usd": 8, "on_exceed": "block", **more})


BUDGETS = {
    "all": budget("all"),
    "search": budget("search", match={"team": "search"}),
    "web": budget("web", match={"team": "web"}),
    "teams": budget("teams", per=["team"]),
    "agents": budget("agents", per=["agent"], match={"phase": "plan"}),
}


class Service:
    """A service with two tokens, of which one is bound to labels."""

    def __init__(self, directory: Path) -> None:
        tokens = []
        for name, secret, labels in (
            ("victim", VICTIM, {}),
            ("attacker", ATTACKER, {"team": "search"}),
        ):
            (directory / name).write_text(secret)
            tokens.append(Token(name=name, file=directory / name, rights=("ingest",), labels=labels))
        self.file = directory / "ledger.db"
        config = Config(labels=("team",), budgets=tuple(BUDGETS.values()), auth=Auth(tokens=tuple(tokens)))
        self.client = TestClient(make_app(config, SqliteLedger(self.file)), base_url="http://localhost")

    def ask(self, token: str, *accounts: dict[str, Any], process: str = PROCESS, ends: bool = False) -> Any:
        """Return the response to a request for leases."""
        answer = self.client.post(
            "/api/v1/budgets/leases",
            json={"process": process, "accounts": accounts, "ends": ends},
            headers={"authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200
        return answer.json()

    def lease(self, token: str, account: dict[str, Any], **more: Any) -> int:
        """Return what is granted on one account, in USD."""
        (grant,) = self.ask(token, account, **more)["granted"]
        return int(grant["amount"]) // DOLLAR

    @property
    def leases(self) -> dict[str, int]:
        """The leases on the budget `all` in the ledger, in USD by owner."""
        return {owner: int(lease["amount"]) // DOLLAR for owner, lease in self.stored_leases().items()}

    def stored_leases(self) -> dict[str, dict[str, float]]:
        with closing(sqlite3.connect(self.file)) as reader:
            ((stored,),) = reader.execute("SELECT leases FROM leases WHERE account = ?", (self.account,))
        return dict(json.loads(stored))

    def expire_leases(self) -> None:
        """Let the leases on the budget `all` end."""
        expired = {owner: {**lease, "until": 1.0} for owner, lease in self.stored_leases().items()}
        with closing(sqlite3.connect(self.file, isolation_level=None)) as writer:
            writer.execute(
                "UPDATE leases SET leases = ? WHERE account = ?", (json.dumps(expired), self.account)
            )

    @property
    def account(self) -> str:
        return json.dumps([json.loads(rule("all")), [], None])


def rule(name: str) -> str:
    """Return the service's name of a budget."""
    one = BUDGETS[name]
    return json.dumps(["Budget", name, one.period, one.unit, sorted(one.match.items()), one.per])


def use(name: str, *values: str, used: int = 0, keeps: int = 0, wanted: int = 0) -> dict[str, Any]:
    return {
        "rule": rule(name),
        "values": values,
        "used": used * DOLLAR,
        "keeps": keeps * DOLLAR,
        "wanted": wanted * DOLLAR,
    }


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    with service.client:
        assert service.lease(VICTIM, use("all", used=2)) == 2 + 3  # half of the six dollars that are left
        assert service.leases == {f"token victim:{PROCESS}": 5}
        yield service


@pytest.mark.parametrize("process", [PROCESS, f":{PROCESS}", f"token victim:{PROCESS}"])
@pytest.mark.parametrize(
    ("claim", "ends", "gets"),
    [
        ({"keeps": 5}, False, 1),
        ({"wanted": 8}, False, 3),
        ({"used": 0}, False, 1),
        ({"used": 0}, True, 0),
        ({"used": 8}, True, 8),
    ],
    ids=["take", "take by wanting", "shrink", "return", "settle as used up"],
)
def test_a_name_of_another_process_changes_nothing_for_that(
    service: Service, process: str, claim: dict[str, int], ends: bool, gets: int
) -> None:
    """The attacker gets a lease of its own, within what the victim leaves."""
    assert service.lease(ATTACKER, use("all", **claim), process=process, ends=ends) == gets
    attackers = {f"token attacker:{process}": gets} if gets else {}
    assert service.leases == {f"token victim:{PROCESS}": 5, **attackers}


def test_who_names_the_process_of_another_does_not_renew_its_lease(service: Service) -> None:
    service.expire_leases()
    service.ask(ATTACKER, use("all", keeps=5))
    assert set(service.leases) == {f"token attacker:{PROCESS}"}


def test_a_process_goes_on_with_its_own_lease(service: Service) -> None:
    service.ask(ATTACKER, use("all"))
    assert service.lease(VICTIM, use("all", used=4)) == 4 + 1
    assert service.lease(VICTIM, use("all", used=0), ends=True) == 0
    assert set(service.leases) == {f"token attacker:{PROCESS}"}


def test_a_token_that_is_bound_to_labels_leases_only_under_them(service: Service) -> None:
    asked = [
        use("all"),
        use("search"),
        use("web"),
        use("teams", "search"),
        use("teams", "web"),
        use("agents", "planner"),
    ]
    bound, free = service.ask(ATTACKER, *asked), service.ask(VICTIM, *asked)
    assert [(grant["rule"], grant["values"]) for grant in bound["granted"]] == [
        (rule("all"), []),
        (rule("search"), []),
        (rule("teams"), ["search"]),
        (rule("agents"), ["planner"]),
    ]
    assert [shared["budget"]["name"] for shared in bound["budgets"]] == ["all", "search", "teams", "agents"]
    assert bound["labels"] == {"team": "search"}
    assert len(free["granted"]) == len(asked)
    assert len(free["budgets"]) == len(BUDGETS)
    assert free["labels"] == {}

"""Who may spend how much of a budget before asking again, so that all together stay within it."""

from __future__ import annotations

import json
import time
from typing import Final

import msgspec
from pydantic import BaseModel

from ..budgets.leases import LEASE_SECONDS, Answer, Asked, Granted, Question, Shared
from ..budgets.spending import USD, Account, Spending
from ..config.model import Budget
from .accounts import Accounts, start_of_period
from .ledger.base import Lease, Leases, Ledger
from .requests import Problem

_KEPT_SECONDS: Final = 2 * LEASE_SECONDS
"""A process stops spending of a lease before it is free for others."""

_decode: Final = msgspec.json.Decoder(Question).decode


def question_in(body: bytes) -> Question:
    """Return what a process asks for.

    Raises:
        Problem: for a body that is something else.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"not what asks for leases: {error}") from None


def answer_to(question: Question, accounts: Accounts, ledger: Ledger) -> Answer:
    """Return the budgets that are shared, and what a process may spend of those that it asks for.

    Raises:
        LedgerError: when the ledger cannot be used.
    """
    shared = {
        json.dumps(spending.identity): spending
        for spending in accounts.budgets
        if spending.rule.on_exceed == "block"
    }
    granted = [
        _grant(question, asked, spending, accounts.account_of(spending, asked.values), ledger)
        for asked in question.accounts
        if (spending := shared.get(asked.rule)) is not None and len(asked.values) == len(spending.by)
    ]
    budgets = [Shared(rule, _plain(spending.rule)) for rule, spending in shared.items()]
    return Answer(budgets, granted)


def _plain(budget: BaseModel) -> dict[str, object]:
    return budget.model_dump(mode="json")


def _grant(
    question: Question, asked: Asked, spending: Spending[Budget], account: Account, ledger: Ledger
) -> Granted:
    name = spending.name_of(asked.values, account.span)
    used, keeps, wanted = max(asked.used, 0), max(asked.keeps, 0), max(asked.wanted, 0)
    spent = amount = 0

    def decide(leases: Leases) -> Leases:
        nonlocal spent, amount
        now = time.time()
        (came_to,) = ledger.spent([name])
        spent = came_to.tokens if spending.unit == "tokens" else round(came_to.usd * USD)
        others = {
            process: lease
            for process, lease in leases.items()
            if process != question.process and lease.until > now
        }
        left = account.limit - spent - sum(lease.amount for lease in others.values()) - used
        # One share stays for who asks next. What is used is so already, whether there is that much or not.
        share = max(left // (len(others) + 2), wanted)
        amount = used if question.ends else used + max(min(left, share), 0)
        # Of a smaller lease the process does not know yet: it may be spending of the old one right now.
        kept = used if question.ends else max(amount, keeps)
        return {**others, question.process: Lease(kept, now + _KEPT_SECONDS)} if kept else others

    ledger.lease(name, decide)
    return Granted(asked.rule, asked.values, start_of_period(account.span), spent, amount)

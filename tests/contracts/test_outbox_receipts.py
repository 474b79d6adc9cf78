"""What every outbox must hold: receipts once each, and secrets that come and go."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pixmill.core.webhooks import Receipt
from pixmill.ports import Outbox
from pixmill.steps.signing import live_secrets
from tests.contracts.records import NOW

DAY = 86_400.0
FIRST, SECOND, THIRD = (bytes([number] * 32) for number in (1, 2, 3))


def a_receipt(webhook_id: str = "msg_1", at: float = NOW) -> Receipt:
    """A receipt of a message that just came."""
    moment = datetime.fromtimestamp(at, UTC)
    return Receipt(webhook_id, "request.completed", "req_theirs", moment, '{"name": "Stühle"}')


class TestReceipts:
    def test_a_message_is_kept_once_as_it_came_first(self, outbox: Outbox) -> None:
        assert outbox.add_receipt(a_receipt())
        assert not outbox.add_receipt(a_receipt(at=NOW + 9))
        assert outbox.receipts() == [a_receipt()]

    def test_a_message_that_comes_twice_at_once_is_kept_once(
        self, open_outbox: Callable[[], Outbox]
    ) -> None:
        opened = [open_outbox(), open_outbox()]
        with ThreadPoolExecutor(8) as pool:
            kept = list(pool.map(lambda n: opened[n % 2].add_receipt(a_receipt()), range(16)))
        assert sum(kept) == 1

    def test_receipts_are_paged_newest_first(self, outbox: Outbox) -> None:
        all_of_them = [a_receipt(f"msg_{number}", NOW + number // 2) for number in range(7)]
        for receipt in all_of_them:
            outbox.add_receipt(receipt)
        seen: list[Receipt] = []
        while page := outbox.receipts(before=seen[-1] if seen else None, limit=3):
            seen += page
        assert seen == all_of_them[::-1]

    def test_a_receipt_is_forgotten_after_30_days(self, outbox: Outbox) -> None:
        outbox.add_receipt(a_receipt("msg_old"))
        outbox.add_receipt(a_receipt("msg_young", NOW + DAY))
        outbox.add_receipt(a_receipt("msg_new", NOW + 30.5 * DAY))
        assert [receipt.webhook_id for receipt in outbox.receipts()] == ["msg_new", "msg_young"]


class TestSecrets:
    def test_there_is_none_until_one_is_needed_then_it_stays(
        self, open_outbox: Callable[[], Outbox]
    ) -> None:
        outbox = open_outbox()
        assert outbox.secrets(now=NOW) == []
        made = live_secrets(outbox, [], lambda: NOW)
        assert len(made) == 1
        assert len(made[0]) == 32
        assert live_secrets(open_outbox(), [], lambda: NOW + 9e9) == made

    def test_configured_secrets_win_and_are_not_kept(self, outbox: Outbox) -> None:
        assert live_secrets(outbox, [FIRST], lambda: NOW) == [FIRST]
        assert outbox.secrets(now=NOW) == []

    def test_processes_that_need_one_at_once_get_the_same(
        self, open_outbox: Callable[[], Outbox]
    ) -> None:
        opened = [open_outbox() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda outbox: live_secrets(outbox, [], lambda: NOW), opened))
        assert made == [made[0]] * 8

    def test_after_a_rotation_both_are_live_until_the_older_ones_end(self, outbox: Outbox) -> None:
        outbox.first_secret(FIRST, now=NOW)
        outbox.add_secret(SECOND, now=NOW, others_until=NOW + DAY)
        assert outbox.secrets(now=NOW + DAY - 1) == [SECOND, FIRST]
        assert outbox.secrets(now=NOW + DAY) == [SECOND]
        assert outbox.first_secret(THIRD, now=NOW + DAY) == [SECOND]

    def test_a_second_rotation_makes_no_secret_live_longer(self, outbox: Outbox) -> None:
        outbox.first_secret(FIRST, now=NOW)
        outbox.add_secret(SECOND, now=NOW, others_until=NOW + DAY)
        outbox.add_secret(THIRD, now=NOW + 10, others_until=NOW + 10 * DAY)
        assert outbox.secrets(now=NOW + DAY - 1) == [THIRD, SECOND, FIRST]
        assert outbox.secrets(now=NOW + DAY) == [THIRD, SECOND]

    def test_a_secret_that_leaked_can_be_ended_at_once(self, outbox: Outbox) -> None:
        outbox.first_secret(FIRST, now=NOW)
        outbox.add_secret(SECOND, now=NOW, others_until=NOW)
        assert outbox.secrets(now=NOW) == [SECOND]

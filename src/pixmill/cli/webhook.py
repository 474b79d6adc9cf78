"""``pixmill webhook``: the secret that signs webhooks, and a receiver for trying them out."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from secrets import token_bytes
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from rich.text import Text

from pixmill import wiring
from pixmill.cli.exit_codes import ALL_DONE, REFUSED
from pixmill.cli.flags import flags_of
from pixmill.cli.numbers import plural
from pixmill.cli.receiver import Arrival, Receiver, Secrets
from pixmill.cli.remote import one_line
from pixmill.cli.words import err, out
from pixmill.core.webhooks import secret_text
from pixmill.ports import Outbox
from pixmill.settings import Settings, load_settings
from pixmill.steps.signing import SECRET_BYTES

HOUR = 3600.0
LOOK_SECONDS = 0.1


@click.group(short_help="Show the secret of webhooks; receive some to try them out.")
def webhook() -> None:
    """The secret that signs webhooks, and a receiver for trying them out.

    Webhooks are asked for with: pixmill submit products.csv --webhook-url https://shop.example/hook
    """


@webhook.command("secret", short_help="Show the secret that signs webhooks, or make a new one.")
@click.option("--rotate", is_flag=True, help="Make a new one. The old one stays live for a while.")
@click.option(
    "--keep-hours",
    type=click.FloatRange(min=0, max=24 * 365),
    default=24.0,
    show_default=True,
    help="For how long the old one still signs and verifies after --rotate.",
)
@flags_of("data_dir", "store")
def secret_(*, rotate: bool, keep_hours: float, **given: Any) -> int:
    """Show the newest secret that signs the webhooks of the service whose data is here.

    It is written to standard output, and made if there is none. Receivers verify with it. A running
    service knows of a new one at once, and signs with the old one too while that is live.
    """
    settings = load_settings(given, os.environ)
    if settings.webhook_secrets:
        return _show_set(settings, rotate=rotate)
    with _outbox(settings) as (outbox, place):
        if rotate:
            now = wiring.clock()
            until = now + keep_hours * HOUR
            outbox.add_secret(token_bytes(SECRET_BYTES), now=now, others_until=until)
        live = wiring.webhook_secrets(settings, outbox)
    click.echo(secret_text(live[0]))
    err.print(f"Webhooks of {place} are signed with this secret.", markup=False)
    if rotate:
        while_live = f"stay live for {keep_hours:g} hours" if len(live) > 1 else "are live no more"
        err.print(f"Give it to your receivers: earlier ones {while_live}.")
    elif len(live) > 1:
        older = plural(len(live) - 1, "earlier one")
        err.print(f"Still live from before a rotation: {older}.")
    return ALL_DONE


@webhook.command(short_help="Receive webhooks here and show them, to try things out.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="Where."
)
@click.option(
    "--secret",
    "webhook_secret",
    metavar="TEXT",
    help="Verify with this one; by default with those of the service whose data is here.",
)
@click.option(
    "--status",
    type=click.IntRange(200, 599),
    default=204,
    show_default=True,
    help="HTTP status to answer with: 500, for instance, to see what is sent again and when.",
)
@click.option("--json", "as_json", is_flag=True, help="Write each message as one line of JSON.")
@flags_of("data_dir", "store")
def listen(*, port: int, status: int, as_json: bool, **given: Any) -> int:
    """Receive webhooks on loopback, verify and show each of them, until Ctrl-C.

    Exit code: 0 stopped, 2 refused.
    """
    settings = load_settings(given, os.environ)
    with _secrets(settings) as (secrets, whose):
        shown = threading.Lock()

        def show(arrival: Arrival) -> None:
            with shown:
                (_show_json if as_json else _show)(arrival)

        with Receiver(port, secrets, status, show) as receiver:
            _serve(receiver, whose)
    return ALL_DONE


def _show_set(settings: Settings, *, rotate: bool) -> int:
    """Say which secret the settings have, and how it is rotated there."""
    newest = settings.webhook_secret.split()[0]
    if not rotate:
        click.echo(newest)
        err.print("It is the one of PIXMILL_WEBHOOK_SECRET; those in the store are not used.")
        if len(settings.webhook_secrets) > 1:
            err.print("The second one that is set there is live as well.")
        return ALL_DONE
    err.print(
        "PIXMILL_WEBHOOK_SECRET is set, so it has to be rotated there. Set it to a new secret and"
        " the old one, with a space between, and restart the service. Once all receivers have the"
        " new one, leave the old one out. This would be a new one:"
    )
    err.print(f"  {secret_text(token_bytes(SECRET_BYTES))}", markup=False)
    return REFUSED


@contextmanager
def _outbox(settings: Settings) -> Iterator[tuple[Outbox, str]]:
    """Where webhooks are kept, and its place."""
    with closing(wiring.open_outbox(settings)) as outbox:
        yield outbox, unquote(urlsplit(settings.store_url).path)


@contextmanager
def _secrets(settings: Settings) -> Iterator[tuple[Secrets, str]]:
    """The secrets to verify with, and whose they are."""
    if settings.webhook_secrets:
        yield lambda: settings.webhook_secrets, "the one that is set"
    else:
        with _outbox(settings) as (outbox, place):
            yield lambda: wiring.webhook_secrets(settings, outbox), f"that of {place}"


def _say_where(address: str, whose: str) -> None:
    err.print(Text(f"Waiting for webhooks at http://{address}/", style="bold"))
    err.print(f"The secret is {whose}; Ctrl-C ends. The sender must be allowed to come here:")
    err.print(f"  PIXMILL_ALLOWED_ADDRESSES={address} pixmill serve", markup=False)
    err.print(f"  pixmill submit products.csv --webhook-url http://{address}/", markup=False)


def _serve(receiver: Receiver, whose: str) -> None:
    """Take calls in until Ctrl-C, or until it is told to end."""
    told: list[int] = []  # a handler that raised would cut off whatever is being written
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: told.append(number))
    threading.Thread(target=receiver.serve_forever, args=(LOOK_SECONDS,), daemon=True).start()
    _say_where(receiver.address, whose)
    while not told:
        time.sleep(LOOK_SECONDS)
    receiver.shutdown()
    err.print("Stopped.")


def _show(arrival: Arrival) -> None:
    """Show what arrived to people."""
    message = arrival.message
    if message:
        style = "yellow" if message.failed_images else ""
        counts = (
            f"{message.status}, {message.processed_images:,} of {message.total_images:,} images"
            f" done, {message.failed_images:,} failed"
        )
        what = Text.assemble(
            (message.type, "bold"), f" of {one_line(message.request_id)}: ", (counts, style)
        )
        judged = ("verified", "green")
    else:
        what = Text(f"Not believed: {one_line(arrival.refusal or '')}", style="red")
        judged = ("refused", "red")
    name = one_line(arrival.webhook_id or "without an id")
    out.print(Text.assemble((f"{arrival.at.astimezone():%H:%M:%S}  ", "dim"), what))
    out.print(Text.assemble(" " * 10, judged, f"; answered {arrival.status}; {name}"))


def _show_json(arrival: Arrival) -> None:
    """Show what arrived to programs."""
    message = arrival.message
    line = {
        "at": arrival.at.isoformat(),
        "webhookId": arrival.webhook_id,
        "verified": message is not None,
        "refusal": arrival.refusal,
        "answered": arrival.status,
        "message": message.model_dump(mode="json", by_alias=True) if message else None,
    }
    click.echo(json.dumps(line))

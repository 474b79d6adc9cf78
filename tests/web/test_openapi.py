"""The contract: valid, complete, and good enough to make a client of it that works."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI

from pixmill.web.openapi import TAGS, contract
from pixmill.web.service import Service
from tests.web import life
from tests.web.server import CSV, new_key

PROBLEM = "application/problem+json"
KEYLESS = {"getFile", "headFile", "getHealth", "getReadiness", "receiveWebhook"}
NAMES = {
    "upload",
    "getStatus",
    "listRequests",
    "streamEvents",
    "cancelRequest",
    "retryRequest",
    "deleteRequest",
    "getResults",
    "downloadCsv",
    "downloadImages",
    "getFile",
    "headFile",
    "getHealth",
    "getReadiness",
    "getMetrics",
    "listDeliveries",
    "replayDelivery",
    "receiveWebhook",
    "listReceipts",
}
"""What generated clients call the calls: changing one breaks them."""


AS_BYTES = dict.fromkeys(
    (
        "application/zip",
        "image/avif",
        "image/jpeg",
        "image/png",
        "image/webp",
    ),
    "application/octet-stream",
)
"""What the generator does not know how to read, and shall hand over as it is."""


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return contract(app)


def calls(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def references(part: object) -> Iterator[str]:
    """Every ``$ref`` below a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_the_contract_is_served_as_it_is_made(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    answer = client.get("/api/openapi.json")
    assert answer.json() == document
    assert document["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere_and_nothing_is_left_over(
    document: dict[str, Any],
) -> None:
    used = set(references(document))
    for reference in used:
        part: Any = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert schemas <= used
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_the_names_of_calls_and_tags_stay(document: dict[str, Any]) -> None:
    assert {call["operationId"] for call in calls(document)} == NAMES
    for call in calls(document):
        assert set(call["tags"]) <= {str(tag["name"]) for tag in TAGS}
        assert call["summary"]
        assert call["description"].endswith(".")


def test_every_call_says_whether_it_needs_a_key_and_how_it_may_end(
    document: dict[str, Any],
) -> None:
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    for call in calls(document):
        answers = call["responses"]
        expected = {"413", "500"}
        if call["operationId"] in KEYLESS:
            assert "security" not in call
        else:
            assert call["security"] == [{"bearer": []}, {"apiKey": []}]
            expected |= {"401", "403", "429", "503"}
            assert "Retry-After" in answers["429"]["headers"]
            assert "WWW-Authenticate" in answers["401"]["headers"]
            assert all("RateLimit-Remaining" in answer["headers"] for answer in answers.values())
        assert expected <= set(answers)
        assert "Location" in answers.get("202", {}).get("headers", {"Location": 0}) or (
            call["operationId"] != "upload"
        )


def test_every_error_is_a_problem_document_with_an_example(document: dict[str, Any]) -> None:
    for call in calls(document):
        for status, answer in call["responses"].items():
            if status < "400" or (call["operationId"], status) == ("getReadiness", "503"):
                continue
            assert set(answer["content"]) == {PROBLEM}, (call["operationId"], status)
            problem = answer["content"][PROBLEM]
            assert problem["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}
            for code, example in problem["examples"].items():
                assert (example["value"]["code"], str(example["value"]["status"])) == (code, status)
    assert not any("ValidationError" in name for name in document["components"]["schemas"])


def test_every_json_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    seen = 0
    for call in calls(document):
        for status, answer in call["responses"].items():
            for media_type, body in answer.get("content", {}).items():
                if media_type not in {"application/json", PROBLEM}:
                    continue
                if (call["operationId"], status) == ("getReadiness", "503"):
                    continue
                many = [example["value"] for example in body.get("examples", {}).values()]
                examples = many or [body["example"]]
                schema = body["schema"] | {"components": document["components"]}
                check = jsonschema_rs.validator_for(schema)
                for example in examples:
                    assert check.is_valid(example), (call["operationId"], status, example)
                    seen += 1
    assert seen > 100


def test_names_are_in_camel_case(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        assert not any("_" in name for name in schema.get("properties", ()))
    for call in calls(document):
        for parameter in call.get("parameters", ()):
            assert "_" not in parameter["name"]
    assert not any("_" in path for path in document["paths"])


@pytest.mark.slow
def test_a_generated_client_uploads_asks_for_the_status_and_gets_the_output(
    client: httpx.Client, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key(service, "admin")
    (tmp_path / "openapi.json").write_bytes(client.get("/api/openapi.json").content)
    config = {"content_type_overrides": AS_BYTES, "post_hooks": []}
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"),
            "generate",
            "--path=openapi.json",
            "--config=config.json",
            "--meta=none",
            "--output-path=made_client",
            "--fail-on-warning",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def part(name: str) -> Any:
        return importlib.import_module(f"made_client.{name}")

    caller = part("client").AuthenticatedClient(
        base_url=str(client.base_url), token=key["Authorization"].removeprefix("Bearer ")
    )
    with caller:
        body = part("models").UploadForm(
            csv=part("types").File(payload=io.BytesIO(CSV), file_name="products.csv"),
            options=part("models").ProcessingOptions(quality=70),
            invalid_rows=part("models").UploadFormInvalidRows.SKIP,
        )
        accepted = part("api.requests.upload").sync(client=caller, body=body)
        assert accepted.total_images == 1
        status = part("api.requests.get_status").sync(accepted.request_id, client=caller)
        assert status.status == "PENDING"
        assert service.store.request(accepted.request_id).options.quality == 70
        life.work_off(service, accepted.request_id)
        status = part("api.requests.get_status").sync(accepted.request_id, client=caller)
        assert (status.status, status.processed_images) == ("COMPLETED", 1)
        assert status.products[0].output_image_urls
        sheet = part("api.results.download_csv").sync(accepted.request_id, client=caller)
        assert sheet == client.get(f"/api/download/{accepted.request_id}", headers=key).text
        stream = part("api.requests.stream_events").sync(accepted.request_id, client=caller)
        assert "event: done" in stream
        problem = part("api.requests.get_status").sync("unknown", client=caller)
        assert (problem.code, problem.status) == ("not_found", 404)

"""The files of deploy/, read as the tools read them that they are for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def compose(values: Mapping[str, str]) -> dict[str, Any]:
    """What compose.yaml says with these variables; those that must be set and are not raise."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found["name"], found["operator"], found["rest"]
        if values.get(name):
            return values[name]
        assert operator == ":-", f"{name}: {rest}"
        return rest

    variable = re.compile(r"\$\{(?P<name>\w+)(?P<operator>:-|:\?)(?P<rest>[^}]*)\}")
    text = variable.sub(value, (DEPLOY / "compose.yaml").read_text())
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """All objects of the Kubernetes example, each with a name that says which it is."""
    for path in MANIFESTS:
        for found in yaml.safe_load_all(path.read_text()):
            yield f"{found['kind']} {found['metadata']['name']}", found


def instruction(name: str) -> list[str]:
    """The last instruction of this name in the Dockerfile that is a JSON list."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    found = re.findall(rf"^{name}\b[^\[\n]*(\[.*\])$", text, re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def image_environment() -> dict[str, str]:
    """The settings that the Dockerfile makes a part of the image."""
    text = (DEPLOY / "Dockerfile").read_text()
    return dict(re.findall(r"\b(PIXMILL_\w+)=(\S+)", text))

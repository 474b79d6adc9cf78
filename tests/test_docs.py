"""Documents tell the truth, where a machine can tell."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pixmill.core.errors import ImageErrorCode
from pixmill.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def maker() -> ModuleType:
    """docs/make.py as a module."""
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "cli.md", "http.md", "openapi.json"])
def test_pages_made_from_code_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == maker().pages()[name], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_flags_that_documents_name_exist(page: Path) -> None:
    text = page.read_text()
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"PIXMILL_[A-Z_]*[A-Z]", text)) <= settings
    help_text = (ROOT / "docs" / "cli.md").read_text()
    for line in re.findall(r"pixmill run [^`\n#]*", text):
        for flag in re.findall(r"--[a-z-]+", line):
            assert flag in help_text, f"{page.name}: {flag}"


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    for dependency in [dependency for group in groups for dependency in group]:
        name = re.split(r"[<>=\[]", dependency)[0]
        assert name in reasons, f"docs/dependencies.md says nothing of {name}"


def test_the_lock_files_hold_every_dependency_with_its_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = project["project"]["dependencies"]
    wanted = {
        "run": run,
        "fleet": run + project["project"]["optional-dependencies"]["fleet"],
        "dev": run + project["dependency-groups"]["dev"],
        "servers": project["dependency-groups"]["servers"],
    }
    for file, dependencies in wanted.items():
        locked = (ROOT / "requirements" / f"{file}.txt").read_text()
        for dependency in dependencies:
            name = re.split(r"[<>=\[]", dependency)[0]
            assert re.search(rf"^{name}==.*\\\n +--hash=", locked, re.MULTILINE), (file, name)


def test_development_knows_the_packages_of_the_fleet() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    fleet = project["project"]["optional-dependencies"]["fleet"]
    assert set(fleet) <= set(project["dependency-groups"]["dev"])


def test_error_codes_that_documents_name_exist() -> None:
    named = set(
        re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    )
    assert named == set(ImageErrorCode)

"""Settings: from flags, environment and .env; wrong ones are named, with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.errors import InvalidSetting
from pixmill.settings import PREFIX, Settings, listed, load_settings


@pytest.fixture(autouse=True)
def no_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in a folder of its own, so that no .env of the developer is read."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    return tmp_path


def test_the_defaults_need_nothing(tmp_path: Path) -> None:
    settings = load_settings({}, {})
    assert settings.store_url == f"sqlite://{tmp_path}/pixmill-data/pixmill.db"
    assert settings.blobs_url == f"file://{tmp_path}/pixmill-data"


def test_a_folder_with_odd_characters_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "100% #1? ü"
    settings = load_settings({"data_dir": folder}, {})
    wiring.open_store(settings).close()
    assert (folder / "pixmill.db").exists()


@pytest.mark.parametrize("store", ["sqlite:pixmill.db", "file:///x", "mysql://h/db", "x.db"])
def test_a_store_that_is_no_store_is_refused(store: str) -> None:
    with pytest.raises(InvalidSetting, match="PIXMILL_STORE must look like sqlite:///"):
        wiring.open_store(load_settings({"store": store}, {}))


def test_flags_win_over_the_environment_and_that_over_dotenv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "PIXMILL_WORKERS=3\nPIXMILL_THREADS=5\nPIXMILL_USER_AGENT=dotenv\nOTHER=1\n"
    )
    monkeypatch.setenv("PIXMILL_THREADS", "6")
    monkeypatch.setenv("PIXMILL_USER_AGENT", "environment")
    settings = load_settings({"user_agent": "flag"}, {"PIXMILL_THREADS": "6"})
    assert (settings.workers, settings.threads, settings.user_agent) == (3, 6, "flag")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("PIXMILL_WORKER", "PIXMILL_WORKERS"), ("PIXMILL_DATADIR", "PIXMILL_DATA_DIR")],
)
def test_an_unknown_setting_is_an_error_that_suggests_the_right_one(
    name: str, suggestion: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"{name}.*{suggestion}"):
        load_settings({}, {name: "1"})


def test_an_unknown_setting_in_dotenv_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PIXMILL_THREAD=1\n")
    with pytest.raises(InvalidSetting, match="PIXMILL_THREADS"):
        load_settings({}, {})


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"workers": 0}, "PIXMILL_WORKERS"),
        ({"workers": "many"}, "PIXMILL_WORKERS"),
        ({"log_level": "loud"}, "PIXMILL_LOG_LEVEL"),
        ({"image_memory": 5}, "PIXMILL_IMAGE_MEMORY"),
        ({"retention_days": -1}, "PIXMILL_RETENTION_DAYS"),
        ({"trusted_proxies": "proxy.example"}, "PIXMILL_TRUSTED_PROXIES"),
        ({"trusted_proxies": "*"}, "PIXMILL_TRUSTED_PROXIES"),
        ({"trusted_proxies": "10.0.0.1/8"}, "PIXMILL_TRUSTED_PROXIES"),
        ({"cors_origins": "https://shop.example/"}, "PIXMILL_CORS_ORIGINS"),
        ({"cors_origins": "shop.example"}, "PIXMILL_CORS_ORIGINS"),
    ],
)
def test_a_value_that_cannot_be_is_named(flags: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        load_settings(flags, {})


def test_a_worker_gets_the_very_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        {"workers": 3, "max_src_resolution": 12.5, "public_url": "https://c"}, {}
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    again = load_settings({}, settings.to_environment())
    absolute = {"data_dir", "store", "blobs"}
    assert again.model_dump(exclude=absolute) == settings.model_dump(exclude=absolute)
    assert again.store_url == settings.store_url
    assert again.blobs_url == settings.blobs_url


def test_lists_may_have_spaces_and_trailing_commas() -> None:
    settings = load_settings(
        {
            "trusted_proxies": "127.0.0.1, 10.0.0.0/8,",
            "cors_origins": "https://a.example, http://localhost:3000",
        },
        {},
    )
    assert listed(settings.trusted_proxies) == ["127.0.0.1", "10.0.0.0/8"]
    assert listed(settings.cors_origins) == ["https://a.example", "http://localhost:3000"]

"""Settings: from flags, environment and .env; wrong ones are named, with what would be right."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.errors import InvalidSetting
from pixmill.core.webhooks import parse_secret
from pixmill.settings import PREFIX, Settings, listed, load_settings, machine


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


@pytest.mark.parametrize(
    ("limit", "most"), [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1), (None, 64)]
)
def test_a_container_counts_the_cores_that_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, most: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    monkeypatch.setattr(machine, "CPU_LIMIT", tmp_path / "cpu.max")
    if limit:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert machine.cores() == most


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


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("WORKERS", "two", "a whole number from 1 to 1024, not 'two'"),
        ("RATE_LIMIT", "-1", "a whole number of at least 0, not '-1'"),
        ("STALL_TIMEOUT", "0", "a number above 0, not '0'"),
        ("LEASE_SECONDS", "soon", "a number of at least 1, not 'soon'"),
        ("LOG_FORMAT", "xml", "one of text, json, not 'xml'"),
    ],
)
def test_a_wrong_value_is_told_in_our_words_with_the_place_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    setting = f"PIXMILL_{name}"

    def said(flags: dict[str, object], environment: dict[str, str]) -> str:
        with pytest.raises(InvalidSetting) as refused:
            load_settings(flags, environment)
        return refused.value.message

    (tmp_path / ".env").write_text(f"{setting}={text}\n")
    assert said({}, {}) == f"{setting} must be {words} (set in .env)."
    monkeypatch.setenv(setting, text)
    assert said({}, {setting: text}) == f"{setting} must be {words} (set in the environment)."
    flag = f"--{name.lower().replace('_', '-')}"
    assert said({name.lower(): text}, {}) == f"{setting} must be {words} (given as {flag})."


@pytest.mark.parametrize("name", ["PIXMILL_QUALITY", "PIXMILL_SERIAL_COL", "PIXMILL_MAX_WIDTH"])
def test_what_is_chosen_for_each_csv_is_no_setting_and_said_so(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text(f"{name}=70\n")
    with pytest.raises(InvalidSetting, match=rf"no setting {name}, as in \.env\. .* each CSV"):
        load_settings({}, {})


def test_host_names_are_no_addresses_that_can_be_allowed() -> None:
    with pytest.raises(InvalidSetting, match=r"'shop\.local:80'.*host names are not accepted"):
        load_settings({"allowed_addresses": "shop.local:80"}, {})


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


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # the specification's example
NEWER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def test_one_or_two_secrets_can_be_set_newest_first() -> None:
    assert load_settings({}, {}).webhook_secrets == []
    settings = load_settings({"webhook_secret": f" {NEWER}  {SECRET} "}, {})
    assert settings.webhook_secrets == [parse_secret(NEWER), parse_secret(SECRET)]


@pytest.mark.parametrize(
    "text", ["swordfish", f"{SECRET} swordfish", f"{SECRET},{NEWER}", f"{SECRET} {NEWER} {SECRET}"]
)
def test_a_wrong_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidSetting, match="PIXMILL_WEBHOOK_SECRET") as refused:
        load_settings({"webhook_secret": text}, {})
    for part in ("swordfish", SECRET[6:], NEWER[6:]):
        assert part not in refused.value.message


def test_secrets_and_endpoints_do_not_show_when_settings_are_printed() -> None:
    settings = load_settings(
        {"webhook_secret": SECRET, "webhook_url": "https://shop.example/hook?token=swordfish"}, {}
    )
    for shown in (repr(settings), str(settings)):
        assert SECRET not in shown
        assert "swordfish" not in shown


@pytest.mark.parametrize("url", ["shop.example", "ftp://shop.example/", "https://a:b@shop.example"])
def test_a_webhook_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="PIXMILL_WEBHOOK_URL"):
        load_settings({"webhook_url": url}, {})


def test_secrets_that_are_set_win_over_the_stores(tmp_path: Path) -> None:
    place = {"data_dir": tmp_path}
    with closing(wiring.open_outbox(load_settings(place, {}))) as outbox:
        made = wiring.webhook_secrets(load_settings(place, {}), outbox)
        assert made == outbox.secrets(now=wiring.clock())
        configured = load_settings(place | {"webhook_secret": SECRET}, {})
        assert wiring.webhook_secrets(configured, outbox) == [parse_secret(SECRET)]


@pytest.mark.parametrize("wrong", ["celery", "redis", "kafka://anna:secret@host/0", ""])
def test_an_engine_that_there_is_not_is_refused_without_showing_a_password(wrong: str) -> None:
    with pytest.raises(InvalidSetting, match="PIXMILL_ENGINE must be local, or") as refused:
        load_settings({"engine": wrong}, {})
    assert "amqp://" in refused.value.message
    assert "secret" not in refused.value.message


def test_the_password_of_a_broker_is_not_shown_with_the_settings() -> None:
    settings = load_settings({"engine": "amqps://anna:secret@host/vhost"}, {})
    assert settings.has_broker
    assert "secret" not in repr(settings)
    assert settings.to_environment()["PIXMILL_ENGINE"] == "amqps://anna:secret@host/vhost"

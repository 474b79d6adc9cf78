"""Keys are made, listed and revoked in the store itself; what is secret is shown once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.access import ApiKey, Scope, key_id_of
from pixmill.settings import load_settings
from tests.contracts.records import a_request
from tests.service import environment


def keys(data: Path, *arguments: str) -> tuple[int, str, str]:
    """``pixmill keys …`` on the store in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "pixmill", "keys", *arguments],
        env=environment(data),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def stored(data: Path) -> list[ApiKey]:
    with closing(wiring.open_access(load_settings({"data_dir": data}, {}))) as access:
        return access.keys()


def test_a_key_is_all_that_create_writes_to_standard_output(tmp_path: Path) -> None:
    code, out, err = keys(tmp_path, "create", "--name", "shop [eu]")
    assert code == 0, err
    (key,) = stored(tmp_path)
    assert out.count("\n") == 1
    assert key_id_of(out.strip()) == key.id
    assert key.opened_by(out.strip())
    assert key.name == "shop [eu]"
    assert key.scopes == {Scope.SUBMIT, Scope.READ}
    assert out.strip() not in err
    assert "every call needs a key" in err


def test_the_key_comes_right_after_the_words_that_announce_it(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "pixmill", "keys", "create", "--name", "shop"],
        env=environment(tmp_path / "new"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()
    assert said[0] == f"There was no pixmill data in {tmp_path}/new: it was made now."
    assert said[-2].endswith("It is not shown again:")
    assert said[-1].startswith("pixmill_")


@pytest.mark.parametrize("words", [["list"], ["revoke", "abc"], ["create", "--replaces", "abc"]])
def test_where_there_are_no_keys_none_are_made_up(tmp_path: Path, words: list[str]) -> None:
    code, out, err = keys(tmp_path / "elsewhere", *words)
    assert (code, out) == (2, "")
    assert f"There is no pixmill data in {tmp_path}/elsewhere." in err
    assert "--data-dir FOLDER" in err
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_replaces_another_has_its_requests_name_and_scopes(tmp_path: Path) -> None:
    old = keys(tmp_path, "create", "--name", "shop", "--scope", "admin")[1].strip()
    (first,) = stored(tmp_path)
    with closing(wiring.open_store(load_settings({"data_dir": tmp_path}, {}))) as store:
        store.add_request(replace(a_request("req_a"), owner=first.id))
        _, _, err = keys(tmp_path, "revoke", first.id)
        assert "No key can reach its 1 request any more." in err
        assert f"pixmill keys create --replaces {first.id}" in err
        code, new, err = keys(tmp_path, "create", "--replaces", old)
        assert code == 0, err
        assert old not in err
        (second,) = (key for key in stored(tmp_path) if key.id != first.id)
        assert second.opened_by(new.strip())
        assert (second.name, second.scopes) == (first.name, first.scopes)
        assert store.request("req_a").owner == second.id
    assert "request" not in keys(tmp_path, "revoke", first.id)[2]


def test_scopes_are_those_that_were_named(tmp_path: Path) -> None:
    assert keys(tmp_path, "create", "--name", "a", "--scope", "admin", "--scope", "read")[0] == 0
    assert stored(tmp_path)[0].scopes == {Scope.ADMIN, Scope.READ}


def test_the_list_shows_every_key_and_no_secret(tmp_path: Path) -> None:
    texts = [keys(tmp_path, "create", "--name", f"n{number}")[1].strip() for number in range(2)]
    revoked = key_id_of(texts[0])
    assert revoked
    assert keys(tmp_path, "revoke", revoked)[0] == 0
    code, out, _ = keys(tmp_path, "list")
    assert code == 0
    for text in texts:
        assert str(key_id_of(text)) in out
        assert text.rpartition("_")[2] not in out
    (line,) = [line for line in out.splitlines() if revoked in line]
    assert line.count(":") == 2, "made and revoked, each with its time"


def test_a_revoked_key_opens_nothing_and_the_last_one_is_told(tmp_path: Path) -> None:
    text = keys(tmp_path, "create", "--name", "a")[1].strip()
    code, out, err = keys(tmp_path, "revoke", text)  # the whole key instead of its id
    assert (code, out) == (0, "")
    assert "No key is left" in err
    assert text not in err
    assert not stored(tmp_path)[0].opened_by(text)


def test_what_cannot_be_is_refused_with_what_can(tmp_path: Path) -> None:
    assert stored(tmp_path) == []  # there is a store, without any key
    for words in (["revoke", "nosuchkey"], ["create", "--replaces", "nosuchkey"]):
        code, out, err = keys(tmp_path, *words)
        assert (code, out) == (2, "")
        assert f"{tmp_path} has no key 'nosuchkey'. See: pixmill keys list" in err
    code, _, err = keys(tmp_path, "list")
    assert code == 0
    assert "pixmill keys create --name" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "--name"),
        (["create", "--name", "  "], "1 to 100 printable"),
        (["create", "--name", "a\nb"], "1 to 100 printable"),
        (["create", "--name", "a", "--scope", "root"], "'submit', 'read', 'admin'"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, out, err = keys(tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert stored(tmp_path) == []

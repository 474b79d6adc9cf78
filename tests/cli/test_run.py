"""``pixmill run`` as people use it: what it leaves, what it says, how it ends."""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import simplejpeg

from tests import shop as shops
from tests.shop import Shop


@pytest.fixture
def shop() -> Iterator[Shop]:
    """An open shop."""
    with shops.open_shop() as opened:
        yield opened


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def pixmill(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command line with nothing set but what is given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIXMILL_")}
    done = subprocess.run(
        [sys.executable, "-m", "pixmill", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_all_images_done_is_exit_code_0_and_everything_lies_in_the_folder(
    tmp_path: Path, shop: Shop
) -> None:
    urls = [shop.url("1.jpg"), shop.url("2.jpg"), shop.url("1.jpg")]
    sheet = shops.write_csv(tmp_path / "products.csv", urls)
    out = tmp_path / "out"
    code, said, err = shops.run(sheet, out, shops.environment(shop))
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == {
        ".pixmill",
        "images",
        "output.csv",
        "errors.csv",
        "report.html",
        "pixmill.db",
    }
    (folder,) = (out / "images").iterdir()
    assert [path.name for path in sorted(folder.iterdir())] == ["0000001.jpg", "0000002.jpg"]
    first = f"images/{folder.name}/0000001.jpg"
    assert [row[-1] for row in rows(out / "output.csv")[1:]] == [
        first,
        f"images/{folder.name}/0000002.jpg",
        first,
    ]
    assert shop.asked["/1.jpg"] == 1
    for word in ("3 of 3 done", "% saved", "images/s", "output.csv", "report.html"):
        assert word in said


def test_a_failed_image_is_exit_code_1_and_leaves_its_place_blank(
    tmp_path: Path, shop: Shop
) -> None:
    shop.special["gone.jpg"] = lambda _: (404, b"")
    shop.special["page.jpg"] = lambda _: (200, b"<!doctype html><title>Log in</title>")
    named = [shop.url("1.jpg"), shop.url("gone.jpg"), shop.url("page.jpg"), shop.url("2.jpg")]
    sheet = shops.write_csv(tmp_path / "products.csv", named, per_product=4)
    out = tmp_path / "out"
    code, said, err = shops.run(sheet, out, shops.environment(shop))
    assert code == 1, err
    cells = rows(out / "output.csv")[1][-1].split(",")
    assert [bool(cell) for cell in cells] == [True, False, False, True]
    errors = rows(out / "errors.csv")
    assert [(row[2], row[3]) for row in errors[1:]] == [
        (shop.url("gone.jpg"), "http_error"),
        (shop.url("page.jpg"), "not_an_image"),
    ]
    assert shop.asked["/gone.jpg"] == 1
    assert "http_error" in said
    assert "not_an_image" in said


def test_every_problem_of_a_bad_file_is_told_at_once(tmp_path: Path, shop: Shop) -> None:
    sheet = tmp_path / "products.csv"
    sheet.write_text(
        "Serial Number,Product Name,Input Image Urls\n"
        f"1,Lamp,{shop.url('1.jpg')}\n"
        f",Chair,{shop.url('1.jpg')}\n"
        "3,Table,htp:/broken\n"
    )
    code, _, err = shops.run(sheet, tmp_path / "out", shops.environment(shop))
    assert code == 2
    assert "2 problems" in err
    assert "line 3, column Serial Number" in err
    assert "line 4, column Input Image Urls" in err
    assert not shop.asked


def test_bad_rows_can_be_skipped_and_stay_in_the_output(tmp_path: Path, shop: Shop) -> None:
    sheet = tmp_path / "products.csv"
    sheet.write_text(
        "Serial Number,Product Name,Input Image Urls\n"
        f",Chair,{shop.url('1.jpg')}\n"
        f"2,Lamp,{shop.url('2.jpg')}\n"
    )
    out = tmp_path / "out"
    code, _, err = shops.run(sheet, out, shops.environment(shop), "--invalid-rows", "skip")
    assert code == 0, err
    assert "Left out, because of what is wrong with them: 1 row." in err
    assert "line 2" in err
    written = rows(out / "output.csv")
    assert [row[1] for row in written[1:]] == ["Chair", "Lamp"]
    assert [bool(row[-1]) for row in written[1:]] == [False, True]


def test_local_files_are_found_beside_the_csv(tmp_path: Path, shop: Shop) -> None:
    folder = tmp_path / "catalogue"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "a b.jpg").write_bytes(shops.PHOTOS[0])
    sheet = folder / "products.csv"
    sheet.write_text(
        "Serial Number,Product Name,Input Image Urls\n"
        "1,Lamp,photos/a b.jpg\n"
        "2,Chair,photos/no.jpg\n"
    )
    out = tmp_path / "out"
    code, _, err = shops.run(sheet, out, shops.environment(shop))
    assert code == 1, err
    assert shops.outcomes(out) == {"done": 1, "invalid_url": 1}
    assert (folder / "photos" / "a b.jpg").read_bytes() == shops.PHOTOS[0]


def test_options_reach_the_pixels(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    env = shops.environment(shop)
    assert shops.run(sheet, tmp_path / "jpeg", env, "--max-width", "80", "--quality", "20")[0] == 0
    (small,) = shops.pictures(tmp_path / "jpeg")
    assert simplejpeg.decode_jpeg_header(small.read_bytes())[:2] == (60, 80)
    assert shops.run(sheet, tmp_path / "webp", env, "--format", "webp")[0] == 0
    (webp,) = (tmp_path / "webp" / "images").rglob("*.webp")
    assert webp.read_bytes()[8:12] == b"WEBP"


def test_names_that_users_of_img2dataset_know_are_taken(tmp_path: Path, shop: Shop) -> None:
    sheet = tmp_path / "urls.csv"
    sheet.write_text(f"photo\n{shop.url('1.jpg')}\n")
    out = tmp_path / "out"
    code, _, err = shops.run(
        sheet,
        out,
        shops.environment(shop),
        *("--url_col", "photo", "--processes_count", "1", "--thread-count", "4"),
        *("--encode-quality", "70", "--encode_format", "jpg", "--timeout", "5"),
    )
    assert code == 0, err
    assert len(shops.pictures(out)) == 1


def test_a_run_whose_csv_could_not_be_ingested_starts_anew(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    assert shops.run(sheet, out, shops.environment(shop))[0] == 0
    with sqlite3.connect(out / "pixmill.db") as database:
        database.execute(
            "UPDATE requests SET status = 'FAILED', error = 'It was killed too often.'"
        )
    database.close()
    code, _, err = shops.run(sheet, out, shops.environment(shop))
    assert code == 0, err
    assert shop.asked["/1.jpg"] == 2


def test_other_options_are_another_request_in_the_same_folder(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    env = shops.environment(shop)
    assert shops.run(sheet, out, env)[0] == 0
    assert shops.run(sheet, out, env, "--quality", "80")[0] == 0
    assert len(shops.pictures(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "Missing argument 'CSV'"),
        (["run", "{csv}"], "Missing option '-o'"),
        (["run", "nowhere.csv", "-o", "out"], "nowhere.csv"),
        (["run", "{csv}", "-o", "{out}", "--quality", "101"], "1 to 100"),
        (["run", "{csv}", "-o", "{out}", "--workers", "0"], "PIXMILL_WORKERS"),
        (["run", "{csv}", "-o", "{out}", "--background", "blurple"], "background"),
        (["run", "{csv}", "-o", "{out}", "--qualty", "50"], "--quality"),
        (["run", "{csv}", "-o", "{out}", "--allowed-addresses", "300.1.1.1"], "300.1.1.1"),
        (["run", "{csv}", "-o", "{csv}"], "is a file"),
        (["rn"], "No such command"),
    ],
)
def test_a_wrong_call_is_refused_in_a_sentence(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", ["http://127.0.0.1/1.jpg"])
    places = {"csv": str(sheet), "out": str(tmp_path / "out")}
    code, out, err = pixmill(*(argument.format(**places) for argument in arguments))
    assert code == 2, out
    assert said in err
    assert "Traceback" not in err


def test_an_unknown_setting_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", ["http://127.0.0.1/1.jpg"])
    code, _, err = pixmill("run", str(sheet), "-o", str(tmp_path / "out"), PIXMILL_WORKER="2")
    assert code == 2
    assert "Did you mean PIXMILL_WORKERS?" in err


def test_without_an_allow_list_no_private_address_is_fetched(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    code, _, err = pixmill("run", str(sheet), "-o", str(out))
    assert code == 1, err
    assert shops.outcomes(out) == {"forbidden_address": 1}
    assert not shop.asked


def test_no_more_downloads_at_once_from_a_host_than_allowed(tmp_path: Path) -> None:
    with shops.open_shop(delay=0.05) as shop:
        urls = [shop.url(f"{number}.jpg?{number}") for number in range(200)]
        sheet = shops.write_csv(tmp_path / "products.csv", urls)
        env = shops.environment(shop, workers=2, threads=48, max_downloads_per_host=10)
        code, _, err = shops.run(sheet, tmp_path / "out", env)
    assert code == 0, err
    assert 5 < shop.busiest <= 10


def test_the_help_of_every_command_can_be_read() -> None:
    for command in ([], ["run"], ["worker"]):
        code, out, _ = pixmill(*command, "--help")
        assert code == 0
        assert "Usage: pixmill" in out


def test_a_csv_from_a_pipe_is_read(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    command = f"cat {sheet} | {sys.executable} -m pixmill run /dev/stdin -o {out}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=shops.environment(shop),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(shops.pictures(out)) == 1


def test_a_run_never_overwrites_its_own_input(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "output.csv", [shop.url("1.jpg")])
    before = sheet.read_bytes()
    code, _, err = shops.run(sheet, tmp_path, shops.environment(shop))
    assert code == 2
    assert "would be overwritten" in err
    assert sheet.read_bytes() == before


def test_another_public_url_is_written_without_fetching_again(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    env = shops.environment(shop)
    assert shops.run(sheet, out, env)[0] == 0
    assert shops.run(sheet, out, env, "--public-url", "https://cdn.example/a/")[0] == 0
    assert rows(out / "output.csv")[1][-1].startswith("https://cdn.example/a/images/req_")
    assert shop.asked["/1.jpg"] == 1
    code, _, err = shops.run(sheet, out, env, "--public-url", "cdn")
    assert code == 2
    assert "PIXMILL_PUBLIC_URL must begin with https://" in err


def test_a_changed_csv_is_done_anew_and_says_so(tmp_path: Path, shop: Shop) -> None:
    sheet = shops.write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
    out = tmp_path / "out"
    env = shops.environment(shop)
    assert "anew" not in shops.run(sheet, out, env)[2]
    shops.write_csv(sheet, [shop.url("1.jpg"), shop.url("2.jpg")])
    code, _, err = shops.run(sheet, out, env)
    assert code == 0, err
    assert "all of it is done anew" in err

"""Every error code is explained, each in its own words."""

from __future__ import annotations

import pytest

from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode


def test_every_code_has_advice() -> None:
    assert set(ADVICE) == set(ImageErrorCode)


@pytest.mark.parametrize("code", ImageErrorCode)
def test_a_title_is_a_fragment_and_the_advice_one_sentence(code: ImageErrorCode) -> None:
    advice = ADVICE[code]
    assert advice.title
    assert advice.title[0].islower(), "it follows a colon"
    assert not advice.title.endswith(".")
    assert advice.what_to_do[0].isupper()
    assert advice.what_to_do.endswith(".")


def test_no_two_codes_share_their_words() -> None:
    assert len({advice.title for advice in ADVICE.values()}) == len(ADVICE)
    assert len({advice.what_to_do for advice in ADVICE.values()}) == len(ADVICE)

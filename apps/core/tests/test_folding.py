"""Twins of what people type."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.folding import digits, fold, like, number_key, phone_e164


@pytest.mark.parametrize(
    ("typed", "folded"),
    [
        ("Алёна", "алена"),
        ("Але\u0308на", "алена"),
        ("ЁЖ", "еж"),
        ("Йод", "йод"),
        ("  ООО \t «Ромашка»\n", "ооо «ромашка»"),
        ("\u00a0Иванов\u2003Пётр ", "иванов петр"),
        ("ＡＢＣ①", "abc1"),
        ("ﬁn", "fin"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("", ""),
    ],
)
def test_fold(typed, folded):
    assert fold(typed) == folded


@pytest.mark.parametrize(
    "typed",
    [
        "+7 912 000-00-01",
        "8 (912) 000-00-01",
        "89120000001",
        "79120000001",
        "9120000001",
        "+7(912)0000001",
        " 8-912-000-00-01 ",
    ],
)
def test_one_number_however_it_is_typed(typed):
    assert phone_e164(typed) == "+79120000001"


@pytest.mark.parametrize(
    ("typed", "number"),
    [("+49 30 123456", "+4930123456"), ("+1 650-253-0000", "+16502530000"), ("нет телефона", None), ("", None),
     ("12", None), ("+7" + "9" * 30, None)],
)  # fmt: skip
def test_other_numbers(typed, number):
    assert phone_e164(typed) == number


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("ХХХ 0123456789", "XXX0123456789"),
        ("XXX-0123456789", "XXX0123456789"),
        ("ххх№0123456789", "XXX0123456789"),
        ("ААС 12/34", "AAC1234"),
        ("аас 12\\34", "AAC1234"),
        ("ЕЕЕ.1", "EEE1"),
        ("Б-1", "Б1"),
        ("", ""),
    ],
)
def test_policy_numbers_are_compared_by_letters_and_digits(typed, key):
    assert number_key(typed) == key


def test_every_look_alike_is_latin():
    assert number_key("авекмнорстух") == number_key("ABEKMHOPCTYX") == "ABEKMHOPCTYX"


@pytest.mark.parametrize(("typed", "found"), [("+7 (912) 000", "7912000"), ("٣４", "34"), ("нет", "")])
def test_digits(typed, found):
    assert digits(typed) == found


@pytest.mark.parametrize("function", [fold, digits, number_key])
def test_folding_twice_changes_nothing(function):
    @given(st.text(max_size=30))
    @settings(max_examples=500, deadline=None)
    def check(text):
        assert function(function(text)) == function(text)

    check()


@given(st.from_regex(r"[+78]?[ ()0-9-]{5,16}", fullmatch=True))
@settings(deadline=None)
def test_a_number_is_its_own_twin(text):
    number = phone_e164(text)
    assert number is None or phone_e164(number) == number


@pytest.mark.parametrize(("text", "pattern"), [("a", "%a%"), ("50%", "%50\\%%"), ("a_b", "%a\\_b%"), ("\\", "%\\\\%")])
def test_like_takes_every_character_literally(text, pattern):
    assert like(text) == pattern

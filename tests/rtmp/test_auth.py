from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DestinationError
from relay.rtmp.auth import (
    Credentials,
    Login,
    adobe_response,
    asks_for_login,
    is_user_name,
    limelight_response,
    read_challenge,
)
from relay.secret import Secret

BOB = Credentials(user="bob", password=Secret("secret"))
REJECT = "[ AccessManager.Reject ] : "
NEED_ADOBE = REJECT + "[ authmod=adobe ] : ?reason=needauth&user=bob&salt=c2FsdA==&challenge=Y2hhbA==&opaque=b3BxdQ=="
NEED_LIMELIGHT = REJECT + "[ authmod=llnw ] : ?reason=needauth&user=bob&nonce=abcdef"


def nonce(count: int) -> bytes:
    return bytes.fromhex("0a1b2c3d")[:count]


def login(app: str = "live") -> Login:
    return Login(BOB, app, nonce)


def go_through(one: Login, said: list[str]) -> None:
    for description in said:
        one.go_on(description)


def test_adobes_response_is_the_known_one() -> None:
    assert adobe_response(BOB, "c2FsdA==", "b3BxdQ==", "0a1b2c3d") == "D+5Q4aWbnLSpOH1so9wSFg=="
    assert adobe_response(BOB, "c2FsdA==", "Y2hhbA==", "0a1b2c3d") == "4abpOumABDtW2FDaWEoxPw=="


@pytest.mark.parametrize(
    ("app", "response"),
    [("live", "dff0897514e2b9fbfa662577025ce140"), ("live/inst", "f77635d07bdc9a3e935d18b9d9ab78a5")],
)
def test_limelights_response_is_the_known_one(app: str, response: str) -> None:
    assert limelight_response(BOB, app, "abcdef", "0a1b2c3d") == response


@pytest.mark.parametrize("scheme", ["adobe", "llnw"])
def test_the_first_rejection_is_answered_with_the_users_name(scheme: str) -> None:
    one = login()
    assert one.query.reveal() == ""

    one.go_on(f"{REJECT}[ code=403 need auth; authmod={scheme} ] : ")

    assert one.query.reveal() == f"authmod={scheme}&user=bob"


def test_adobes_challenge_is_answered() -> None:
    one = login()
    one.go_on(REJECT + "[ code=403 need auth; authmod=adobe ] : ")
    one.go_on(NEED_ADOBE)

    assert one.query.reveal() == (
        "authmod=adobe&user=bob&challenge=0a1b2c3d&response=D+5Q4aWbnLSpOH1so9wSFg==&opaque=b3BxdQ=="
    )


def test_without_an_opaque_value_the_challenge_itself_is_answered() -> None:
    one = login()
    one.go_on(NEED_ADOBE.replace("&opaque=b3BxdQ==", ""))

    assert one.query.reveal() == "authmod=adobe&user=bob&challenge=0a1b2c3d&response=4abpOumABDtW2FDaWEoxPw=="


def test_limelights_challenge_is_answered() -> None:
    one = login()
    one.go_on(REJECT + "[ code=403 need auth; authmod=llnw ] : ")
    one.go_on(NEED_LIMELIGHT)

    assert one.query.reveal() == (
        "authmod=llnw&user=bob&nonce=abcdef&cnonce=0a1b2c3d&nc=00000001&response=dff0897514e2b9fbfa662577025ce140"
    )


def test_the_user_stays_ours_whatever_the_server_calls_us() -> None:
    one = login()
    one.go_on(NEED_ADOBE.replace("user=bob", "user=eve"))

    assert "user=bob&" in one.query.reveal()
    assert "D+5Q4aWbnLSpOH1so9wSFg==" in one.query.reveal()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([REJECT + "[ authmod=adobe ] : ?reason=authfailed"], "the password is wrong"),
        ([REJECT + "[ authmod=adobe ] : ?reason=nosuchuser"], "no such user"),
        ([NEED_ADOBE, NEED_ADOBE], "the user name or the password is wrong"),
        ([NEED_ADOBE, REJECT + "[ code=403 need auth; authmod=adobe ] : "], "the user name or the password is wrong"),
        ([REJECT + "[ code=403 need auth; authmod=adobe ] : "] * 2, "again"),
        ([REJECT + "[ code=403 need auth; authmod=adobe ] : ", NEED_LIMELIGHT], "a kind of login"),
        ([REJECT + "[ code=403 need auth; authmod=kerberos ] : "], "a kind of login"),
        ([NEED_LIMELIGHT.replace("nonce=abcdef", "")], "gives no nonce"),
        ([NEED_ADOBE.replace("challenge=Y2hhbA==&opaque=b3BxdQ==", "")], "gives no challenge"),
        ([NEED_ADOBE.replace("Y2hhbA==&opaque=b3BxdQ==", "x" * 256)], "gives no challenge"),
    ],
)
def test_a_login_ends_with_words_for_a_person(said: list[str], words: str) -> None:
    one = login()
    for description in said[:-1]:
        one.go_on(description)

    with pytest.raises(DestinationError, match=words) as caught:
        one.go_on(said[-1])

    assert caught.value.reason == "auth-failed"


@given(said=st.lists(st.text(max_size=300) | st.sampled_from([NEED_ADOBE, NEED_LIMELIGHT]), min_size=4, max_size=6))
def test_a_server_that_asks_for_ever_is_not_followed(said: list[str]) -> None:
    one = login()

    with pytest.raises(DestinationError):
        go_through(one, said)


@given(st.text(max_size=400), st.text(max_size=80))
def test_nothing_that_a_server_says_gets_out_of_its_place_in_the_query(salt: str, nonce_said: str) -> None:
    one = login()
    try:
        one.go_on(f"[ authmod=llnw ] : ?reason=needauth&salt={salt}&nonce={nonce_said}")
    except DestinationError:
        return

    parts = one.query.reveal().split("&")
    assert [part.partition("=")[0] for part in parts] == ["authmod", "user", "nonce", "cnonce", "nc", "response"]
    assert not any(char.isspace() or char == "?" for char in one.query.reveal())


def test_what_names_a_scheme_asks_for_a_login_and_nothing_else_does() -> None:
    assert asks_for_login("[ code=403 need auth; authmod=adobe ]")
    assert not asks_for_login("No such app.")
    assert read_challenge("[authmod=ADOBE] : ?reason=needauth&salt=a+/=") == (
        "adobe",
        {"reason": "needauth", "salt": "a+/="},
    )


@pytest.mark.parametrize(
    ("name", "good"),
    [("bob", True), ("bob@example.com", True), ("x" * 255, True), ("x" * 256, False), ("", False)]
    + [(f"b{char}b", False) for char in " &?#\n\u00e9"],
)
def test_a_user_name_fits_into_a_query(name: str, good: bool) -> None:
    assert is_user_name(name) is good


def test_the_password_is_in_no_repr() -> None:
    assert "secret" not in repr(BOB).replace("Secret", "")

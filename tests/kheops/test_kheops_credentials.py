"""Tokens that stay out of sight, and the files they are kept in."""

import logging
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kheopsfs.errors import TokenRefusedError
from kheopsfs.kheops.credentials import Credentials, Token, read_token_file

T = "aB3dE6gH9kL2nO5qR8tU1v"
OTHER = "Z" * 22

token_texts = st.from_regex(r"[A-Za-z0-9.+=_-]{12,200}", fullmatch=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(f"{T}\n")
    return path


def replace(path: Path, text: str, mode: int = 0o600) -> None:
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)


@given(token_texts)
def test_a_token_shows_itself_to_nobody_who_does_not_ask(text: str) -> None:
    token = Token(text)
    credentials = Credentials(token, "link")
    shown = [str(token), repr(token), f"{token}", f"{token!r:>99}", repr([token]), str(credentials), repr(credentials)]
    assert all(text not in each for each in shown)
    assert token.reveal() == text
    with pytest.raises(TypeError):
        pickle.dumps(token)


@given(token_texts, token_texts)
def test_tokens_are_equal_when_their_texts_are(one: str, two: str) -> None:
    assert (Token(one) == Token(two)) == (one == two)
    assert len({Token(one), Token(one)}) == 1
    assert Token(one) != one


@given(st.text().filter(lambda text: not text.isalnum()), token_texts)
def test_text_that_is_no_token_is_refused_without_being_repeated(text: str, secret: str) -> None:
    for bad in (f"{secret} {secret}", f"{secret}\n", f"{secret}:", "", f"{secret}é", secret * 400 + "x" * 4096):
        with pytest.raises(TokenRefusedError) as caught:
            Token(bad)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("content", [T, f"{T}\n", f"  {T}\r\n\n", f"\t{T} "])
def test_a_file_holds_one_token_and_blanks_around_it(file: Path, content: str) -> None:
    file.write_bytes(content.encode())
    assert read_token_file(file) == Token(T)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666, 0o777, 0o660])
def test_a_file_that_others_can_touch_is_refused_with_the_cure(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(TokenRefusedError) as caught:
        read_token_file(file)
    assert f"chmod 600 {file}" in str(caught.value)
    assert T not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_file_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_token_file(file) == Token(T)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(TokenRefusedError, match="another user"):
        read_token_file(file)


@pytest.mark.parametrize("content", [b"", b" \n", f"{T}\n{T}".encode(), b"no token: here", b"\xff\xfe", b"a" * 70_000])
def test_a_file_without_a_token_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(TokenRefusedError) as caught:
        read_token_file(file)
    assert T not in str(caught.value)
    assert str(file) in str(caught.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(TokenRefusedError, match="token file"):
            read_token_file(path)


def test_credentials_without_a_file_never_change() -> None:
    assert not Credentials(Token(T)).reload()


def test_a_new_token_in_the_file_is_taken(file: Path) -> None:
    credentials = Credentials(read_token_file(file), "bearer", file)
    assert not credentials.reload()
    assert not credentials.reload()
    replace(file, OTHER)
    assert credentials.reload()
    assert (credentials.token, credentials.offered) == (Token(T), Token(OTHER))
    assert not credentials.reload()
    credentials.accept(credentials.offered)
    assert credentials.token == Token(OTHER)
    assert not credentials.reload()


def test_a_file_that_was_written_in_place_is_noticed(file: Path) -> None:
    credentials = Credentials(read_token_file(file), "bearer", file)
    credentials.reload()
    before = file.stat()
    file.write_text(OTHER + "\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert credentials.reload()


def test_a_token_that_stayed_the_same_is_no_change(file: Path) -> None:
    credentials = Credentials(read_token_file(file), "bearer", file)
    replace(file, f"  {T}\n")
    assert not credentials.reload()


def test_a_file_changed_before_the_first_look_is_noticed(file: Path) -> None:
    credentials = Credentials(read_token_file(file), "bearer", file)
    replace(file, OTHER)
    assert credentials.reload()


def test_a_file_that_cannot_be_used_leaves_the_old_token_and_is_tried_again(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(read_token_file(file), "bearer", file)
    with caplog.at_level(logging.WARNING, "kheopsfs.kheops"):
        for spoil in (lambda: replace(file, OTHER, 0o644), lambda: replace(file, ""), file.unlink):
            spoil()
            assert not credentials.reload()
            assert not credentials.reload()
            assert credentials.token == credentials.offered == Token(T)
    assert len(caplog.records) == 3, "each complaint once"
    assert OTHER not in caplog.text
    file.touch(mode=0o600)
    file.write_text(OTHER)
    assert credentials.reload()
    replace(file, T, 0o644)
    assert not credentials.reload()
    file.chmod(0o600)  # changes no modification time
    assert credentials.reload()

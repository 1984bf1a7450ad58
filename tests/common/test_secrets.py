"""No secret comes out: whatever it holds, wherever it stands, however the command ends."""

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.common import secrets
from benchmark.common.errors import IcmBenchError
from benchmark.common.failing import in_words
from benchmark.common.secrets import has_secret, hidden, hidden_in, public
from benchmark.common.terminal.escaping import safe_output
from tests.planted import GIVEN, IN_URI, KEY, SECRET, leaks

RAW = f"s3://{KEY}:{SECRET}@bucket/store"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"The store {RAW} is", "The store s3://***@bucket/store is"),
        (f"{RAW}?region=eu&session_token={SECRET}", "s3://***@bucket/store?region=eu&session_token=***"),
        (f"s3://b/x?access_key={SECRET}&secret_key=a/b&scheme=http", "s3://b/x?access_key=***&secret_key=***&scheme=http"),
        (f"--set run.secret_key={SECRET}: write", "--set run.secret_key=*** write"),
        ('{"secret_key": "ab\\"cd/ef", "x": "y"}', '{"secret_key": "***", "x": "y"}'),
        ("password='abc\\' x", "password='***' x"),
        (f"not {{'secret_key': '{SECRET}', 'x': 1}}.", "not {'secret_key': '***', 'x': 1}."),
        (json.dumps({"password": SECRET, "x": 1}), '{"password": "***", "x": 1}'),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        ("http://user:pass/word@host:8265/x", "http://***@host:8265/x"),
        *((plain, plain) for plain in (
            "s3://bucket/run@3", "file:///a:b@c", "http://localhost:8000/v1", "mail me@host.org", "max_tokens=96",
            "asks for a token: set RAY_AUTH_MODE=token, with", "none in ~/.ray/auth_token: copy it",
            "key_env: OPENAI_API_KEY", "a key 'secret_key' is unknown",
        )),
    ],
)  # fmt: skip
def test_secrets_are_hidden_in_any_text_and_nothing_else_is(text: str, shown: str) -> None:
    assert hidden(text) == shown
    assert hidden(shown) == shown
    assert has_secret(text) == (text != shown)
    assert str(IcmBenchError(text)) == shown
    assert hidden_in({"a": [text, 1, None]}) == {"a": [shown, 1, None]}
    assert in_words(OSError(text)) == f"OSError ({shown.rstrip('.')})"


@pytest.mark.parametrize("sign", ["a", "/", "@", "a://", "secret_key=", "'"])
def test_a_text_of_any_kind_is_looked_through_in_time_that_grows_with_it(sign: str) -> None:
    began = time.monotonic()
    hidden(sign * (100_000 // len(sign)))
    assert time.monotonic() - began < 5


def test_values_of_variables_are_hidden_where_these_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())  # what other tests had
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
        assert hidden(f"is {SECRET} or {IN_URI}.") == "is *** or ***."
        monkeypatch.delenv(name)
    for name, value in (("TOKENIZERS_PARALLELISM", SECRET), ("HF_TOKEN_PATH", SECRET), ("HF_TOKEN", "short")):
        monkeypatch.setenv(name, value)
        assert hidden(f"is {value}") == f"is {value}"


def test_what_is_printed_has_no_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with safe_output():
        print(f"out {RAW}")
        print(f"err {RAW}", file=sys.stderr)
    out, err = capsys.readouterr()
    assert out == "out s3://***@bucket/store\n"
    assert err == "err s3://***@bucket/store\n"


def test_a_value_is_a_secret_by_its_key() -> None:
    content = {"secret_key": "abcdefgh1234", "name": "x", "inner": [{"password": "short"}], "root": "s3://K:abc@b/x"}
    shown = {"secret_key": "***", "name": "x", "inner": [{"password": "***"}], "root": "s3://***@b/x"}
    assert hidden_in(content) == shown
    assert hidden('{"api_key": [1, 2]}') == '{"api_key": [1, 2]}'


def test_what_a_uri_is_printed_as_has_neither_query_nor_credentials() -> None:
    assert public(f"{RAW}/?session=hush") == "s3://***@bucket/store"
    assert public("s3://bucket/a/?session=hush") == "s3://bucket/a"


def test_a_secret_that_a_test_left_in_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    try:
        (tmp_path / "log.txt").write_text(f"key {KEY}")
        (tmp_path / f"{GIVEN}.yaml").write_text(SECRET)
        pq.write_table(pa.table({"error": [SECRET]}), tmp_path / "rows" / "a.parquet", compression="zstd")
        assert sorted(leaks(tmp_path)) == [str(tmp_path / "log.txt"), str(tmp_path / "rows" / "a.parquet")]
    finally:
        for file in ("log.txt", "rows/a.parquet"):
            (tmp_path / file).unlink()
    assert leaks(tmp_path) == []

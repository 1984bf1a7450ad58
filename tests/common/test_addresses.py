"""Addresses with credentials are refused by name of what holds them, and quoted nowhere."""

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import check_address, check_arguments

HUSH = "Hush"  # in every secret below
WITH = {
    "bad-6-space": "s3://KEY:Super Hush/XYZ@bucket/x",
    "bad-6-quote": 's3://KEY:Super"Hush/XYZ@bucket/x',
    "poor-command-no-at": "s3://KEY:Hush",
    "one key": "gs://Hush@bucket/x",
    "slash and digits": "s3://KEY:12/Hush@b/x",
    "at": "S3://KEY:a@Hush@b/x",
    "query": "s3://b/x?access_key=K&secret_key=Hush",
    "endpoint": "s3://b/x?endpoint_override=u%3AHush%40host:9",
    "http": "http://user:Hush@host:80/v1",
    "http, slash": "http://user:12/Hush@host/v1",
    "unknown scheme": "s4://KEY:Hush@b",
    "line break": "s3://KEY:a\nHush@b",
    "space before": "  s3://KEY:Hush@b",
}
WITHOUT_SLASHES = {"poor-command-one-slash": "s3:/KEY:Hush@b/x", "none": "gs:Hush/x"}
PLAIN = (
    "", "s3://bucket/run@3", "s3://bucket/a:b@c", "file:///a:b@c", "http://localhost:8000/v1", "http://[::1]:8265/x",
    "gs://anonymous@bucket/x", "s3://b/x?endpoint_override=127.0.0.1:9&scheme=http", "/a:b@c", "my_module:Class",
    "hf:org/name@main", "timm:hf-hub:org/name@rev", "mail me@host.org: now", "a photo of a {}.",
)  # fmt: skip


@pytest.mark.parametrize("text", PLAIN)
def test_what_has_no_credentials_passes(text: str) -> None:
    check_address(text, "x")
    check_arguments(["plan", text, f"--store={text}", "--set", f"run.store={text}"])


@pytest.mark.parametrize(("case", "phrase"), [
    *((case, "a user, a password or a key in it; leave them out: set AWS_ACCESS_KEY_ID") for case in WITH),
    *((case, "without '//'; write s3://BUCKET") for case in WITHOUT_SLASHES),
])  # fmt: skip
def test_credentials_are_refused_wherever_they_come_and_not_quoted(case: str, phrase: str) -> None:
    text = {**WITH, **WITHOUT_SLASHES}[case]
    for name, words in (
        ("--store", ["report", "--store", text]),
        ("--store", ["report", f"--store={text}"]),
        ("--set run.store", ["plan", "r.yaml", "--set", f"run.store={text}"]),
        ("An argument", ["plan", text]),
    ):
        with pytest.raises(IcmBenchError, match=f"^{name} is an address .*{phrase}") as caught:
            check_arguments(words)
        assert HUSH not in str(caught.value)
    with pytest.raises(IcmBenchError, match=f"^The place of a store.*{phrase}") as caught:
        Storage(text.lstrip())
    assert HUSH not in str(caught.value)


@pytest.mark.parametrize("uri", ["KEY:Hush@bucket/x", "s3://Hu sh/Hush", "s3://bucket/Hush Hush", "nonsense://Hush^"])
def test_nothing_is_quoted_of_what_cannot_be_parsed(uri: str) -> None:
    with pytest.raises(IcmBenchError, match=r"cannot be (opened|parsed)|a user, a password or a key") as caught:
        Storage(uri)
    assert HUSH not in str(caught.value)

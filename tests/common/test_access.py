"""A worker on a node without keys and address of S3 has those of where the run was begun; its own come first."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pyarrow.fs
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import HIDDEN, hidden
from benchmark.common.storage.files import Storage
from benchmark.common.storage.object_store import Access, access_of
from tests.conftest import S3


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Let AWS's variables and files be those of another node."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", **variables}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sent(s3: S3, tmp_path: Path) -> bytes:
    """A storage with a file, as it travels to a worker."""
    storage = Storage(f"s3://{s3.bucket}/{tmp_path.name}")
    storage.write_bytes("a.txt", b"there")
    assert "testing" not in repr(access_of(storage._fs))
    return pickle.dumps(storage)


def test_keys_and_address_of_s3_go_along(sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path, monkeypatch)
    again = pickle.loads(pickle.dumps(pickle.loads(sent)))  # as one worker hands it to the next
    assert again.read_bytes("a.txt") == b"there"
    assert [entry.name for entry in again.listing()] == ["a.txt"]


def test_what_cannot_be_opened_is_told_at_the_first_use_and_not_when_it_arrives(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(tmp_path, monkeypatch, AWS_ENDPOINT_URL="http://someone:else@127.0.0.1:1")  # its own comes first
    again = pickle.loads(pickle.dumps(pickle.loads(sent)))
    with pytest.raises(IcmBenchError, match="its endpoint has a user or a password") as told:
        again.read_bytes("a.txt")
    assert "else" not in str(told.value)


def test_keys_of_the_node_come_first_and_are_not_those_of_its_machine(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://{s3.address}"
    system = pyarrow.fs.FileSystem.from_uri("s3://bucket/x?region=us-east-1")[0]
    keys = ("of-the-driver", "secret/of+the@driver", "")
    handed = Access("http://127.0.0.1:2", keys)
    own = handed.options(system)
    assert (own["access_key"], own["endpoint_override"]) == (None, address)
    elsewhere(tmp_path, monkeypatch)
    system = pyarrow.fs.FileSystem.from_uri("s3://bucket/x?region=us-east-1")[0]
    used = handed.options(system)
    assert (used["access_key"], used["secret_key"], used["endpoint_override"]) == (*keys[:2], "http://127.0.0.1:2")
    assert hidden(f"refused: {keys[1]}, secret%2Fof%2Bthe%40driver") == f"refused: {HIDDEN}, {HIDDEN}"
    assert access_of(system) == Access()
    file = tmp_path / "keys"
    file.write_text("[default]\naws_access_key_id = filed\naws_secret_access_key = filed-secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert access_of(system).keys == ("filed", "filed-secret", "")
    assert handed.options(system)["access_key"] == keys[0]  # an address goes with its keys
    assert replace(handed, endpoint="").options(system)["access_key"] is None  # and Amazon is known here
    monkeypatch.setenv("AWS_PROFILE", "nobody's")
    assert access_of(system) == Access()  # which is told where keys are used
    monkeypatch.setattr(
        "benchmark.common.storage.object_store._own_keys", lambda: ("iam-role", ("of", "the-machine", ""))
    )
    assert access_of(system).keys is None

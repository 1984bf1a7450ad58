"""A worker on a node without keys and address of S3 has those of where the run was begun; its own come first."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.fs
import pytest

from benchmark.common.access import Access, access_of
from benchmark.common.secrets import HIDDEN, hidden
from benchmark.common.storage import Storage
from tests.conftest import REPOSITORY, S3

READS = """
import pickle, sys
storage = pickle.load(open(sys.argv[1], "rb"))  # noqa: SIM115, S301
again = pickle.loads(pickle.dumps(storage))  # as one worker hands it to the next
print("arrived")
print(again.read_bytes("a.txt").decode(), [entry.name for entry in again.listing()])
"""


def elsewhere(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Read a pickled storage where AWS's variables and files are others."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    plain |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(REPOSITORY), **variables}
    return subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path / "storage")], env=plain, capture_output=True, text=True, check=False
    )


def test_keys_and_address_of_s3_go_along(s3: S3, tmp_path: Path) -> None:
    storage = Storage(f"s3://{s3.bucket}/{tmp_path.name}")
    storage.write_bytes("a.txt", b"there")
    (tmp_path / "storage").write_bytes(pickle.dumps(storage))
    read = elsewhere(tmp_path)
    assert read.stdout == "arrived\nthere ['a.txt']\n", read.stderr
    assert "testing" not in repr(access_of(storage._fs))


def test_what_cannot_be_opened_is_told_at_the_first_use_and_not_when_it_arrives(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "storage").write_bytes(pickle.dumps(Storage(f"s3://{s3.bucket}/{tmp_path.name}")))
    read = elsewhere(tmp_path, AWS_ENDPOINT_URL="http://someone:else@127.0.0.1:1")  # of its own: it comes first
    last = read.stderr.strip().splitlines()[-1]
    assert "its endpoint has a user or a password" in last
    assert read.stdout == "arrived\n"
    assert "else" not in last


def test_keys_of_the_node_come_first_and_are_not_those_of_its_machine(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://{s3.address}"
    system = pyarrow.fs.FileSystem.from_uri("s3://bucket/x?region=us-east-1")[0]
    keys = ("of-the-driver", "secret/of+the@driver", "")
    handed = Access("http://127.0.0.1:2", keys)
    own = handed.options(system)
    assert (own["access_key"], own["endpoint_override"]) == (None, address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
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
    monkeypatch.setattr("benchmark.common.access._own_keys", lambda: ("iam-role", ("of", "the-machine", "")))
    assert access_of(system).keys is None

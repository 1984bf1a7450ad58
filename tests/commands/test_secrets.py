"""Fake credentials over success, refusal and failure: `grep` finds none in output, store and reports."""

import json
from pathlib import Path

import pytest

from benchmark.cli import main
from tests.conftest import S3, Swept
from tests.planted import KEY, PLANTED, SECRET, opened

RAW = f"s3://{KEY}:{SECRET}@bucket/store"


def test_no_command_lets_a_secret_out(
    tmp_path: Path, swept_toy: Swept, s3: S3, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{SECRET}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for folder in (swept_toy.store, swept_toy.images):
        s3.upload(folder, f"{tmp_path.name}/{folder.name}")
    base = f"s3://bucket/{tmp_path.name}"
    tail = f"?endpoint_override={s3.address}&scheme=http&region=us-east-1"
    store, file, out = f"{base}/store{tail}", tmp_path / "recipe.yaml", tmp_path / "out"
    content = json.loads(swept_toy.file.read_text())
    content["datasets"][0]["root"], content["run"]["store"] = f"{base}/toy{tail}", store
    content["sweep"]["protocols"] = ["held_out"]  # a report of all of them takes seconds more
    file.write_text(json.dumps(content))
    tried = [
        (0, ["run", str(file), "--out", str(out)]),  # all of it is there: no Ray
        (0, ["report", "--store", store, "--where", "protocol=held_out", "--out", str(tmp_path / "again"), "--json"]),
        (2, ["submit", str(file), "--set", f"sweep.search={{key: sk-{SECRET}}}"]),
        (2, ["run", str(file), "--store", store.replace("bucket/", "nowhere/")]),
        (2, ["run", str(file), "--store", RAW]),
        (2, ["run", str(file), "--set", f"datasets.0.root={RAW}"]),
        (2, ["plan", str(file), "--set", f"run.store={{secret_key: {SECRET}}}"]),
        (2, ["plan", str(file), "--set", f"sweep.seeds={RAW}"]),
        (2, ["plan", str(file), "--set", f"sweep.search=sk-{SECRET}"]),
        (2, ["plan", RAW]),
        (2, ["store", "--what", RAW]),
    ]
    for code, words in tried:
        assert main(words) == code, words
    with pytest.raises(SystemExit):
        main(["plan", str(file), "--gpus", f"sk-{SECRET}"])
    printed = capsys.readouterr()
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{tmp_path.name}/store")
    keys = [one["Key"] for page in pages for one in page["Contents"]]
    kept = [s3.client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in keys]
    written = [f.read_bytes() for folder in (out, tmp_path / "again") for f in folder.rglob("*") if f.is_file()]
    assert f"s3://bucket/{tmp_path.name}/toy".encode() in b"".join(kept)  # the record of the run has its recipe
    assert len(written) > 5
    assert any(len(opened(content)) > 3 for content in written)  # the page
    texts = [text.encode() for text in printed]
    texts += [part for content in (*kept, *written) for part in opened(content)]
    for secret in PLANTED:
        assert not [text for text in texts if secret.encode() in text], secret

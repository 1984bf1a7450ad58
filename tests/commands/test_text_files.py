"""What a file of pairs of texts must be."""

import json
import re
from pathlib import Path

import pytest

from benchmark.commands.preparing.text_pairs import read_text_pairs
from benchmark.common.errors import IcmBenchError
from benchmark.method.interventions.text import TextPair


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    pairs = [
        TextPair("a dog on grass", "a dog in the snow", "dog", "photo/dog/1.jpg"),
        TextPair("ein Käfer, 夜", "ein Käfer am Strand", class_name="Käfer"),
        TextPair("a red car", "a red car at night"),
    ]
    lines = [{k: v for k, v in vars(p).items() if v is not None} for p in pairs]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", encoding="utf-8")
    assert read_text_pairs(file) == pairs
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_text_pairs(str(file)) == pairs
    with_nulls = [{k: v for k, v in vars(p).items() if k != "noise"} for p in pairs]  # null is as good as absent
    file.write_text("\n".join(json.dumps(line) for line in with_nulls), encoding="utf-8")
    assert read_text_pairs(file) == pairs


GOOD = b'{"caption": "a dog", "rewrite": "a dog at night"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'caption': 1}", "not JSON (Expecting property name enclosed in double quotes at column 2)"),
        (b'{"caption": "a dog"', "not JSON (Expecting ',' delimiter at column 20)"),
        (b"[" * 100_000, "not JSON ("),
        (b'["a dog", "a cat"]', "a JSON array where an object is needed"),
        (b'{"caption": "a", "rewrite": "b", "class": "dog"}', "unknown key 'class'; did you mean 'class_name'?"),
        (b'{"caption": "a"}', "the key 'rewrite' is missing"),
        (b'{"caption": " ", "rewrite": "a"}', "'caption' is empty"),
        (b'{"caption": "a", "rewrite": null}', "'rewrite' is a JSON null; it must be text"),
        (b'{"caption": "a", "rewrite": "b", "image_id": 17}', "'image_id' is a JSON number; it must be text"),
        (b'{"caption": "a", "rewrite": "b", "class_name": ""}', "'class_name' is empty"),
        (b'{"caption": "a", "caption": "b", "rewrite": "c"}', "the key 'caption' appears twice"),
        (b'{"caption": "a dog", "rewrite": "a dog"}', "caption and rewrite are equal"),
        (b'{"caption": "\\ud83d", "rewrite": "a"}', "half of a surrogate pair"),
        (b'{"caption": "K\xe4fer", "rewrite": "a"}', "byte 15 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_bad_line_is_refused_by_file_number_and_remedy(tmp_path: Path, line: bytes, message: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    with pytest.raises(IcmBenchError, match=rf"^{re.escape(str(file))}, line 3: .*{re.escape(message)}.*\.$"):
        read_text_pairs(file)


@pytest.mark.parametrize("content", [b"", b"\n  \n"])
def test_a_file_without_pairs_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(content)
    with pytest.raises(IcmBenchError, match="line 1: the file holds no text pair; write one JSON object"):
        read_text_pairs(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "absent.jsonl", "No such file or directory"), (tmp_path, "it is a folder")):
        with pytest.raises(IcmBenchError, match=f"cannot be read: {reason}"):
            read_text_pairs(place)


def test_pairs_of_other_data_sets_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    of_no_set = {"caption": "a", "rewrite": "b", "seed": 3, "model": "m", "prompt": "p", "captioner": "c"}
    file.write_text(
        "\n".join(json.dumps(of_no_set | more) for more in ({}, {"dataset": "x"}, {"dataset": "y", "caption": "z"}))
    )
    assert [pair.caption for pair in read_text_pairs(file, "y")] == ["a", "z"]
    assert len(read_text_pairs(file)) == 3
    file.write_text(json.dumps(of_no_set | {"dataset": "x"}))
    with pytest.raises(IcmBenchError, match="all pairs are of other data sets than y"):
        read_text_pairs(file, "y")

"""The wrong lines of `tests.mutations` still have a place: nobody finds out by hand, months later."""

from collections import Counter

from tests.conftest import REPOSITORY
from tests.mutations import MUTATIONS


def test_every_line_that_is_made_wrong_stands_in_its_file_exactly_once() -> None:
    texts = {m.file: (REPOSITORY / m.file).read_text(encoding="utf-8") for m in MUTATIONS}
    misplaced = {(m.file, m.right): n for m in MUTATIONS if (n := texts[m.file].count(m.right)) != 1}
    assert not misplaced


def test_every_wrong_line_differs_is_listed_once_and_has_tests_that_exist() -> None:
    assert not [(m.file, m.right) for m in MUTATIONS if m.right == m.wrong]
    assert max(Counter((m.file, m.right, m.wrong) for m in MUTATIONS).values()) == 1
    assert not {name for m in MUTATIONS for name in m.tests if not (REPOSITORY / name).is_file()}


def test_no_wrong_line_needs_a_test_that_runs_in_test_all_alone() -> None:
    assert not {name for m in MUTATIONS for name in m.tests if "mark.long" in (REPOSITORY / name).read_text()}

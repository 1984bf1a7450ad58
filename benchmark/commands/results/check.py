"""`icm-bench results check`: checks published records, and leaves what `results board` reads."""

from dataclasses import dataclass

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.results.checking import problems_of
from benchmark.results.records import misplaced, read_results, write_table


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Attributes:
        records: number of records that could be read.
        answers: number of answers of all records.
        problems: one sentence for each problem: the file, the line or field, and the remedy.
    """

    records: int
    answers: int
    problems: list[str]

    def text(self) -> str:
        """Return the result as text."""
        end = f"{len(self.problems)} problems" if self.problems else "no problem"
        return f"{self.records} records with {self.answers:,} answers: {end}"


def check_results(results: Storage) -> Checked:
    """Check all records of a results folder: schema, checksums, arithmetic, verdicts.

    If there is no problem, `results.csv` and the packed answers for `results board` are written anew.

    Raises:
        IcmBenchError: the folder has no records.
    """
    published, problems = read_results(results)
    problems += misplaced(results)
    if not published and not problems:
        raise IcmBenchError(f"{results.path('')} holds no records; `icm-bench publish RECIPE --to FOLDER` writes some.")
    problems += problems_of(published)
    if not problems:
        write_table(results)
    return Checked(len(published), sum(len(one.answers or ()) for one in published), problems)

"""Result rows as a table of pandas: `python docs/examples/rows_in_pandas.py STORE`

STORE is the folder that `--store` named, or the one in the cache folder, `~/.cache/icm-bench/store`.
"""

import sys
from pathlib import Path

from benchmark.common.storage.files import Storage
from benchmark.store.rows import read_rows

storage = Storage(sys.argv[1])
trials = [Path(file).stem for file in storage.files("rows", ".parquet")]
rows = read_rows(storage, trials)  # one row for each held-out environment, seed and setting; a curve along the ranks

rows["of_all_ranks"] = rows["target"].str[-1]  # accuracy on the held-out environment at the largest rank
rows["of_half"] = [curve[len(curve) // 2] for curve in rows["target"]]
table = rows.groupby(["dataset", "backbone", "projection", "predictor"], dropna=False)[["of_half", "of_all_ranks"]]
print(table.mean().round(3).to_string())

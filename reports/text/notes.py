"""What fits had to say, such as that one did not converge."""

from reports.analysis.chosen import Selections

MAX_PLACES = 6  # held-out environments with seeds that a note is listed with


def notes(selections: Selections) -> list[str]:
    """Return what fits had to say, such as that one did not converge: a line for each method and note."""
    lines = []
    for method, rows in selections.parts.items():
        where: dict[str, list[str]] = {}
        for row in rows[["held_out", "seed", "fold", "notes"]].to_dict("records"):
            fold = "" if row["fold"] < 0 else f" fold {row['fold']}"
            for note in row["notes"] if isinstance(row["notes"], list) else ():
                where.setdefault(note, []).append(f"{row['held_out']} seed {row['seed']}{fold}")
        for note, places in where.items():
            named = list(dict.fromkeys(places))
            rest = f" and {len(named) - MAX_PLACES} more" if len(named) > MAX_PLACES else ""
            lines.append(
                f"{method.label}: {note} ({len(places)} of {len(rows)} rows: {', '.join(named[:MAX_PLACES])}{rest})"
            )
    return lines

"""Strategies: inputs near valid ones, of the kinds that strangers hand in. Each strategy gives a `Draw`."""

import argparse
import copy
import csv
import datetime
import functools
import io
import tarfile
from typing import Any, TypeVar

from hypothesis import strategies as st

from benchmark.command_line import command_parser
from tests.properties.contents import (
    COLUMNS,
    EMBEDDINGS,
    OF_IMPORT,
    WORDS,
    Content,
    Draw,
    Embeddings,
    Parquet,
    Picture,
    Tar,
    recipe_of,
)

T = TypeVar("T")
# Values that a key of a recipe is not made for, or hardly. None of them names a place outside of the draw's folder.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 10**30, 0.0, -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"),
    "", " ", "0", "1e3", "none", "all", "auto", "random", "a\nb", "a\0b", "\x1b[2J", "\u202e", "é" * 40, "x" * 5_000,
    "{}", "{0.__class__}", "{row:.99999999999}", "no_module:Class", "os:system", "tests.conftest:REPOSITORY", ":", "timm:",
    "hf:nothing_here", "../up", "~nobody/x", "set", "r.yaml", "nothing_here", "nonsense://x", "file:///x", "cluster:0",
    "cluster:3", "cluster:1000000000", "cluster:-1", "cat", "dog", "toy", "identity", "zero_shot", "grayscale", "openai",
    [], [[]], [None], [0, 0], [1, 2, 3], [0.1] * 40, ["a"], ["x"] * 200, {}, {"a": 1}, {"name": "a"}, {"": ""}, {1: 2},
    datetime.date(2024, 1, 1), b"\xff", [True], [10**12],
)  # fmt: skip

FULL: tuple[dict[str, Any], ...] = (
    recipe_of({}),
    recipe_of(
        {"classes_differ": True, "environments": "cluster:2", "metric": "balanced", "expected": {"parts": []}},
        images={"jpeg_draft": False, "upright": False, "resize": "torch", "formats": ["AVIF"]},
        interventions={"kinds": ["grayscale", {"name": "gaussian_blur", "sigma": [1, 2]}], "draws": 1, "seed": 3},
        prompts={"templates": ["a photo of a {}.", "a {}."], "by_dataset": {"set": "simple"}},
        names={"set": "S", "CLIP-ICM": "ICM"},
        run={"max_bad_images": 0.1, "trial_timeout": 60, "cpus_per_trial": 1, "loggers": []},
        sweep={
            "protocols": ["held_out", "held_out_pairs"], "test_splits": ["out_20"], "seeds": [0, 1], "ranks": [4, 16],
            "normalize": ["none", "before"], "predictors": ["zero_shot", {"name": "linear_probe", "C": [1, 10]}],
            "projections": ["identity", {"name": "shrinkage", "lambdas": [1, 3]}, {"name": "nap", "removed": [0, 2]}],
            "grids": {"linear_probe": {"ranks": [4]}}, "metrics": [], "choose_by": "balanced", "selection_images": 9,
        },
    ),
    recipe_of(
        {"labels": {"a": "none"}},
        interventions={"kinds": ["grayscale", "invert"], "text": {"per_class": 2}},
        sweep={
            "folds": 3, "seeds": [0], "lambdas": [0.1, 1], "predictors": ["zero_shot"],
            "projections": ["identity", {"name": "icm", "nuisance": ["interventions", "both"]}],
            "intervention_sets": [
                {"name": "one", "kinds": ["grayscale", "text"], "weights": [1, 2], "pairing": "each"},
                {"name": "all", "kinds": ["grayscale", "invert"]},
                {"name": "two", "placebo": "rotated", "kinds": ["grayscale", "invert"], "draws": 3},
                {"name": "few", "kinds": ["grayscale", "invert"], "pairs": 0.5},
            ],
        },
    ),
    recipe_of(
        {},
        sweep={
            "search": {"method": "random", "samples": 4, "rule": "training_domain", "lambdas": [0.1, 10], "strengths": {"gaussian_blur": {"sigma": [1, 2]}}},
            "seeds": [0], "projections": ["identity", "icm"], "predictors": [{"name": "tip_adapter", "shots": 2}],
        },
        interventions={"kinds": ["gaussian_blur"]},
    ),
)  # fmt: skip

PLAN = ["plan", "r.yaml", "--json", "--store", "store"]
ENVIRONMENTS, CLASSES, EACH = ("a", "b", "c"), ("cat", "dog"), 5
PATHS = [f"{e}/{c}/{i}.png" for e in ENVIRONMENTS for c in CLASSES for i in range(EACH)]
PICTURES: dict[str, Content] = {f"set/{path}": Picture(i) for i, path in enumerate(PATHS)}
# Signs of names that some reader or writer takes for something else.
_SIGNS = st.sampled_from(
    [*"abAB01 _-.,;:'\"`=+@%$#&!?*|<>(){}[]\\~^\t\n\r\x1b\x7fäÄßé中\u0301\u200b\u202e\ufeff\U0001f600"]
)
NAMES = st.one_of(
    st.text(st.sampled_from("abcAB01 _-.,;'()&+=é中"), min_size=1, max_size=6),
    st.sampled_from(["CON", "a" * 200, "cat", "Cat", "..a", ".hidden", "__MACOSX", "classnames.txt", "a.tar", "original"]),
    st.text(_SIGNS, min_size=1, max_size=12),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9),
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 230)  # fmt: skip


_HOW = ("near", "near", "near", "odd", "odd", "drop", "drop", "double", "move", "wrap", "add")
_FEW = st.sampled_from([1, 1, 1, 2, 3])


def _mostly(usual: T, *odd: T) -> st.SearchStrategy[T]:
    """Draw the usual value four times out of five."""
    return st.sampled_from([usual] * 4 * len(odd) + [*odd])


def _places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each value of a tree."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place, *(deeper for key, value in parts for deeper in _places(value, (*place, key)))]


@st.composite
def _mutated(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with one to three changes: a value dropped, doubled, replaced, moved, wrapped, or with an unknown key beside it."""
    changed = {"": copy.deepcopy(tree)}
    for _ in range(draw(_FEW)):
        place = draw(st.sampled_from([place for place in _places(changed) if place]))
        holder: Any = changed
        for key in place[:-1]:
            holder = holder[key]
        last, how = place[-1], draw(st.sampled_from(_HOW))
        value = holder[last]
        if how == "near" and isinstance(value, int | float | str):
            holder[last] = value + draw(st.integers(1, 3)) if not isinstance(value, str) else value + draw(_SIGNS)
        elif how in ("odd", "near"):
            holder[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif how == "drop" and len(place) > 1:
            del holder[last]
        elif how == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif how == "move":
            other: Any = changed
            for key in draw(st.sampled_from(_places(changed))):
                other = other[key]
            holder[last] = copy.deepcopy(other)
        elif how == "wrap":
            holder[last] = [holder[last]] if draw(st.booleans()) else {"name": holder[last]}
        elif isinstance(holder, dict) and len(place) > 1:
            holder[draw(st.sampled_from(["nmae", "", 1, None, "seed", "name", "lambda_", "x" * 300]))] = holder[last]
    return changed[""]


@st.composite
def recipes(draw: st.DrawFn) -> Draw:
    """A recipe near a valid one, on 30 images in three environments."""
    return Draw(PLAN, PICTURES, draw(_mutated(draw(st.sampled_from(FULL)))))


@functools.cache
def _options(command: str) -> list[argparse.Action]:
    """Return the options and places of a command that a test may give: none measures, or asks at an address."""
    [subs] = [a for a in command_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return [a for a in subs.choices[command]._actions if a.dest not in ("measure", "address", "speech", "help")]


# The others download, wait for a cluster, or draw the demo's images.
COMMANDS = (
    "run", "plan", "embed", "sweep", "details", "unlabelled", "report", "choose", "export", "diagnose", "splits", "import",
    "import-embeddings", "export-embeddings", "store", "init", "recipes", "datasets",
)  # fmt: skip
_WORDS = st.one_of(
    st.sampled_from([
        "r.yaml", "set", "store", "mine.npz", "p.csv", "nothing_here", "", "-", "--", "0", "1", "-1", "nan", "inf", "1e400",
        "seed=0", "seed=x", "nope=1", "=", "a=b=c", "sweep.seeds=[0,1]", "sweep.seeds=", "datasets.0.root=set", "run=1",
        "sweep.ranks=[3", "name=x", "datasets.7.name=x", "...=1", "synthetic", "demo", "icm", "identity", "shrinkage", "tiny",
        "os:getcwd", "no_module:TABLE", "l4", "class=label,embedding=x", "nonsense://x", "list", "verify", "clean", "repair",
        "set/a", "r.yaml/x", "new", "new.csv", "new.parquet", "new.yaml", "dataset=synthetic", "both", "a\nb", "\x1b[2J", "x" * 300,
    ]),
    NAMES,
)  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> Draw:
    """A command with options of its own, whose values may be any, beside a recipe, images, a store with invented rows and more."""
    command = draw(st.sampled_from(COMMANDS))
    words = [command]
    for action in _options(command):
        required = action.required or not action.option_strings
        if draw(st.integers(0, 29)) >= (28 if required else 4):
            continue
        values = 0 if action.nargs == 0 else action.nargs if isinstance(action.nargs, int) else 1
        natural = {"recipe": "r.yaml", "recipes": "r.yaml", "stores": "store", "store": "store", "place": "mine.npz"}
        usual = st.sampled_from([*(action.choices or ()), natural.get(action.dest, "set")])
        words += action.option_strings[-1:]
        words += [str(draw(usual if draw(st.integers(0, 9)) < 7 else _WORDS)) for _ in range(values)]
    files: dict[str, Content] = {
        **PICTURES,
        "mine.npz": Embeddings(),
        "p.csv": b"image,method,predicted\na/cat/0.png,m,cat\n",
    }
    return Draw(words, files, recipe_of({}, run={"store": "store"}))


@st.composite
def names(draw: st.DrawFn) -> Draw:
    """A folder of images whose environments, classes and files are called anyhow."""
    printable = NAMES.filter(str.isprintable)
    any_names = [
        st.lists(NAMES if draw(st.integers(0, 5)) == 0 else printable, min_size=n, max_size=4, unique=True)
        for n in (2, 2, 3)
    ]
    environments, classes, files = map(draw, any_names)
    paths = [[e, c, f"{f}.png"] for e in environments for c in classes for f in files]
    hidden = sum(any(part.startswith(".") or part == "__MACOSX" for part in path[:-1]) for path in paths)
    content: dict[str, Content] = {f"set/{'/'.join(path)}": Picture(i) for i, path in enumerate(paths)}
    return Draw(PLAN, content, recipe_of({}), len(paths) - hidden)


_CELLS = [
    "", " ", "cat", "dog", "CAT", "a,b", 'a"b', "a\nb", "=1+1", "\ufeffcat", "x" * 3_000, "../x", "set", "0", "nan",
    "\x1b[2J", "a/cat",
]  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Draw:
    """A table of images with some cells, lines or heads that do not fit, in one of the dialects of CSV, and encodings."""
    lines = [["path", "label", "environment"], *([path, path.split("/")[1], path[0]] for path in PATHS)]
    for _ in range(draw(_FEW)):
        at, column = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, 2))
        how = draw(st.sampled_from(["cell", "cell", "drop", "double", "short", "wide"]))
        if how == "cell" and column < len(lines[at]):
            lines[at] = [*lines[at][:column], draw(st.sampled_from(_CELLS)), *lines[at][column + 1 :]]
        elif how == "drop" and len(lines) > 1:
            del lines[at]
        elif how == "double":
            lines.insert(at, lines[at])
        else:
            lines[at] = lines[at][:column] if how == "short" else [*lines[at], "more"]
    buffer = io.StringIO()
    separator, ending = draw(_mostly(",", ";", "\t")), draw(_mostly("\n", "\r\n", "\r"))
    csv.writer(buffer, delimiter=separator, lineterminator=ending).writerows(lines)
    text = buffer.getvalue() + draw(_mostly("", "\n\n", '"', "\0", "\x1a"))
    content = text.encode(draw(_mostly("utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    columns = draw(_mostly({}, {"environment": "{path:.1}"}, {"group": "label"}, {"path": "{path}"}))
    lookup = draw(_mostly(None, {"class_name": {"values": {"cat": "a cat"}, "other": "other"}}))
    spec = {"layout": "table", "table": "t.csv", "columns": columns, "lookup": lookup}
    return Draw(
        PLAN,
        {**PICTURES, "set/t.csv": content},
        recipe_of({k: v for k, v in spec.items() if v}),
        sum(map(bool, lines)) - 1,
    )


@st.composite
def archives(draw: st.DrawFn) -> Draw:
    """A WebDataset of two shards, with members that do not fit, or are cut off."""
    members = _sound(0)
    odd = [
        b"", b"7", b"-1", b"1.0", b" 1\n", b"9" * 6_000, b"cat", b"\xff", b"[1]", b'{"class_name": "cat"}',
        b"{" * 2_000,
    ]  # fmt: skip
    for _ in range(draw(_FEW)):
        at = draw(st.integers(0, len(members) - 1))
        name, content, kind = members[at]
        how = draw(st.sampled_from(["content", "content", "name", "kind", "drop", "double", "move"]))
        if how == "content":
            content = draw(st.sampled_from(odd))
        elif how == "name":
            endings = ("", ".png", ".cls", ".json", ".jpg", ".PNG", ".a.png", "/x.png")
            name = draw(NAMES) + draw(st.sampled_from(endings))
        elif how == "kind":
            kind = draw(
                st.sampled_from([tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
            )
        elif how == "drop":
            del members[at]
            continue
        else:
            to = draw(st.integers(0, len(members)))
            members.insert(to, members[at])
            continue
        members[at] = (name, content, kind)
    names_of = draw(
        st.sampled_from(
            [b"cat\ndog\n", b"cat\ndog\n", b"cat\n", b"cat\ncat\n", b"", None, b"\xef\xbb\xbfcat\r\ndog", b"a_b\na b\n"]
        )
    )
    lost = draw(st.sampled_from([0, 0, 0, 1, 512, 1024, 9_000]))
    files: dict[str, Content] = {"set/a/0.tar": Tar(members, lost), "set/b/0.tar": Tar(_sound(100))}
    if names_of is not None:
        files["set/classnames.txt"] = names_of
    return Draw(PLAN, files, recipe_of({}))


def _sound(first: int) -> list[tuple[str, bytes | Picture, bytes]]:
    """Return the members of twelve samples, numbered from the first one."""
    members: list[tuple[str, bytes | Picture, bytes]] = []
    for i in range(first, first + 12):
        members += [(f"{i}.png", Picture(i), tarfile.REGTYPE), (f"{i}.cls", str(i % 2).encode(), tarfile.REGTYPE)]
    return members


@st.composite
def parquets(draw: st.DrawFn) -> Draw:
    """Two Parquet files of a folder whose schemas do not fit the layout, or each other."""
    files: dict[str, Content] = {}
    images = 0
    for environment in ("a", "b"):
        columns = [("image", "image and path"), ("label", "words")]
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(columns) - 1))
            name = draw(_mostly(columns[at][0], "label", "image", "domain", "group", "path", "x\ny", ""))
            kept = name != columns[at][0]
            columns[at + kept : at + 1] = [(name, draw(st.sampled_from(list(COLUMNS))))]
        rows, group = draw(_mostly(12, 1, 0)), draw(st.sampled_from([5, 12]))
        images += rows
        said = draw(st.sampled_from(["", "", "{", "[]", '{"info": {"features": {"label": {"names": ["cat"]}}}}']))
        files[f"set/{environment}/0.parquet"] = Parquet(columns, rows, group, {"huggingface": said} if said else {})
    return Draw(PLAN, files, recipe_of({}), images)


@st.composite
def imports(draw: st.DrawFn) -> Draw:
    """Embeddings of 30 images in two views, and texts, with columns that are odd or missing."""

    def one(texts: bool) -> Embeddings:
        found = ["class", "embedding"] if texts else ["environment", "class", "image_id", "view", "embedding"]
        odd = []
        for name in draw(st.lists(st.sampled_from(found), max_size=1 if texts else 2, unique=True)):
            odd.append((name, draw(st.sampled_from(list(EMBEDDINGS if name == "embedding" else WORDS)))))
        without = draw(st.lists(st.sampled_from(found), max_size=1)) if draw(st.integers(0, 4)) == 0 else []
        return Embeddings(odd, without, draw(st.sampled_from(["npz", "npz", "parquet", "compressed"])), texts)

    images, texts = one(False), one(True)
    ends = {"npz": "npz", "compressed": "npz", "parquet": "parquet"}
    files: dict[str, Content] = {f"new.{ends[images.form]}": images, f"texts.{ends[texts.form]}": texts}
    words = [
        "import-embeddings",
        next(iter(files)),
        "--name",
        "mine",
        "--backbone",
        "new",
        "--store",
        "store",
        "--json",
    ]
    words += ["--texts", [*files][-1]] if draw(st.booleans()) else []
    return Draw(words, files, images=OF_IMPORT)


KINDS: dict[str, st.SearchStrategy[Draw]] = {
    "recipes": recipes(), "command_lines": command_lines(), "names": names(), "tables": tables(), "archives": archives(),
    "parquets": parquets(), "imports": imports(),
}  # fmt: skip
SHARE = {"recipes": 0.3, "command_lines": 0.2}  # of all draws; the other kinds share the rest

"""Catalog of benchmark data sets: environments, image counts, licence, citation, source of a copy, class names.

Counts of PACS and VLCS were checked against file lists; other counts are from the literature, so a difference is
reported as a warning, not an error. Counts without a source are left out and not compared. A new data set is one entry
in `_ALL`; a variant of ImageNet also needs its list of WordNet ids in `_LISTS`.
"""

import functools
import pkgutil
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.common.errors import IcmBenchError, some


@dataclass(frozen=True)
class DatasetFacts:
    """Facts of one data set.

    Attributes:
        name: name of the data set in recipes.
        folder: name of the folder below the root, as in DomainBed.
        environments: environment -> number of images, None if unknown. ImageNet and its variants have one environment.
        classes: number of classes.
        licence: description of the licence.
        citation: the publication to cite.
        obtain: where to get a copy.
        counts: source of the numbers of images.
        variants: for other known copies: total number of images -> description of the copy.
        fingerprint: SHA-256 (hex) of the manifest of the reference copy; None if unknown.
        total: number of images over all environments, if the counts of the environments are unknown.
        metric: the authors' metric, by its name in recipes. Default `accuracy`.
        reads: how the authors' files are read, as keys of `datasets` in a recipe; empty for folders
            ENVIRONMENT/CLASS/IMAGE.
    """

    name: str
    folder: str
    environments: Mapping[str, int | None]
    classes: int
    licence: str
    citation: str
    obtain: str
    counts: str = "from the literature"
    variants: Mapping[int, str] = field(default_factory=dict)
    fingerprint: str | None = None
    total: int | None = None
    metric: str = "accuracy"
    reads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def single(self) -> bool:
        """Whether the set has only one environment, with images in ROOT/FOLDER/CLASS/IMAGE."""
        return len(self.environments) == 1

    @property
    def entries(self) -> frozenset[str]:
        """Folders of environments in ROOT/FOLDER (of corruptions, in ImageNet-C); empty for sets that have none."""
        if self.single or "table" in self.reads:
            return frozenset()
        return frozenset(name.split("/")[0] for name in self.environments)

    @property
    def contents(self) -> str:
        """Description of what ROOT/FOLDER must hold, in the plural."""
        if "table" in self.reads:
            return f"tables ({self.reads['table']})"
        what = "corruptions" if self.reads else "environments"
        return "classes (folders named by WordNet ids)" if self.single else f"{what} ({some(sorted(self.entries))})"

    def is_in(self, names: Collection[str]) -> bool:
        """Return whether a folder with these entries holds an environment of the set, or its table, or classes."""
        if "table" in self.reads:
            return self.reads["table"] in names
        if self.single:
            return any(re.fullmatch(r"n\d{8}|\d{1,3}", name) for name in names)
        return not self.entries.isdisjoint(names)

    @property
    def images(self) -> int:
        """Number of images over all environments."""
        return sum(self.counted.values()) if self.total is None else self.total

    @property
    def counted(self) -> dict[str, int]:
        """Environment -> number of images, for the environments whose number is known."""
        return {name: count for name, count in self.environments.items() if count is not None}

    @property
    def is_counted(self) -> bool:
        """Whether the number of images of every environment is known."""
        return len(self.counted) == len(self.environments)


_DOMAINBED = "DomainBed's download script (domainbed.scripts.download) unpacks it in this layout"
_AUTHORS = "the authors' repository"
_RESEARCH = "no licence stated by the authors; for research use"
_WILDS = "the package wilds (p-lambda/wilds) downloads it in this layout"
_KOH = "Koh, Sagawa et al.: WILDS, ICML 2021"
# From ImageNet-C/test.py of hendrycks/robustness: 15 corruptions, without the four for validation; severities 1 to 5.
_CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip

_ALL = (
    DatasetFacts(
        name="PACS", folder="PACS", classes=7,
        environments={"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929},
        licence=_RESEARCH,
        citation="Li, Yang, Song, Hospedales: Deeper, Broader and Artier Domain Generalization, ICCV 2017",
        obtain=_DOMAINBED, counts="checked against file lists",
    ),
    DatasetFacts(
        name="VLCS", folder="VLCS", classes=5,
        environments={"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376},
        licence=_RESEARCH,
        citation="Fang, Xu, Rockmore: Unbiased Metric Learning, ICCV 2013",
        obtain=_DOMAINBED, counts="checked against file lists",
    ),
    DatasetFacts(
        name="OfficeHome", folder="office_home", classes=65,
        environments={"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
        licence="for non-commercial research and education",
        citation="Venkateswara, Eusebio, Chakraborty, Panchanathan: Deep Hashing Network, CVPR 2017",
        obtain=_DOMAINBED,
    ),
    DatasetFacts(
        name="TerraIncognita", folder="terra_incognita", classes=10,
        environments={"location_38": 9736, "location_43": 3970, "location_46": 5883, "location_100": 4741},
        licence="CDLA-Permissive-1.0 (Caltech Camera Traps)",
        citation="Beery, Van Horn, Perona: Recognition in Terra Incognita, ECCV 2018",
        obtain=_DOMAINBED,
        variants={24788: "the 24,788-image list that also circulates"},
    ),
    DatasetFacts(
        name="DomainNet", folder="domain_net", classes=345,
        environments={
            "clipart": 48129, "infograph": 51605, "painting": 72266,
            "quickdraw": 172500, "real": 172947, "sketch": 69128,
        },
        licence="for non-commercial research (fair use notice of the authors)",
        citation="Peng, Bai, Xia, Huang, Saenko, Wang: Moment Matching for Multi-Source DA, ICCV 2019",
        obtain=_DOMAINBED + ", with the duplicates removed",
        variants=dict.fromkeys((596006, 596010), "the unpruned copy, with duplicates"),
    ),
    *(
        DatasetFacts(
            name=name, folder=folder, classes=classes, environments={folder: images}, licence=licence,
            citation=citation, obtain=f"{source}; one folder per WordNet id",
            variants={1281167: "the training images"} if name == "ImageNet" else {},
        )
        for name, folder, images, classes, licence, citation, source in (
            ("ImageNet", "imagenet", 50000, 1000, "ImageNet terms", "Deng et al., CVPR 2009", "image-net.org"),
            ("ImageNetV2", "imagenetv2", 10000, 1000, "MIT", "Recht et al., ICML 2019", _AUTHORS),
            ("ImageNet-R", "imagenet-r", 30000, 200, "MIT", "Hendrycks et al., ICCV 2021", _AUTHORS),
            ("ImageNet-A", "imagenet-a", 7500, 200, "MIT", "Hendrycks et al., CVPR 2021", _AUTHORS),
            ("ImageNet-Sketch", "imagenet-sketch", 50889, 1000, "MIT", "Wang et al., NeurIPS 2019", _AUTHORS),
        )
    ),
    # Columns, files and metrics of the next three are from wilds/datasets/{iwildcam,fmow,camelyon17}_dataset.py of
    # p-lambda/wilds. For the number of images of each environment, no source was found.
    DatasetFacts(
        name="iWildCam", folder="iwildcam_v2.0", classes=182,
        environments={str(location): None for location in range(323)},  # camera traps
        licence="CDLA-Permissive-1.0",
        citation=f"Beery, Cole, Gjoka: The iWildCam 2020 Competition Dataset, 2020; {_KOH}",
        obtain=_WILDS, counts="of WILDS v2.0, in all, from the literature", total=203029, metric="macro_f1",
        reads={
            "layout": "table", "table": "metadata.csv",
            "columns": {
                "path": "train/{filename}",  # the folder of all splits
                "class_name": "y", "environment": "location_remapped",
                "group": "sequence_remapped",  # frames of one burst
            },
            "lookup": {"class_name": {"table": "categories.csv", "key": "y", "name": "name"}},
            "classes_differ": True,
        },
    ),
    # The environments are regions, as in DomainBed's WILDSFMoW. The split `seq` has sequestered images, which WILDS
    # leaves out. Columns are from dataset_preprocessing/fmow/process_metadata_fmow.py of p-lambda/wilds.
    DatasetFacts(
        name="FMoW", folder="fmow_v1.1", classes=62,
        environments=dict.fromkeys(("Africa", "Americas", "Asia", "Europe", "Oceania", "Other")),
        licence="Functional Map of the World Challenge Public License",
        citation=f"Christie, Fendley, Wilson, Mukherjee: Functional Map of the World, CVPR 2018; {_KOH}",
        obtain=_WILDS, counts="of WILDS v1.1 without its split seq, in all, from the literature", total=470086,
        metric="worst_environment",
        reads={
            "layout": "table", "table": "rgb_metadata.csv",
            "columns": {
                "path": "images/rgb_img_{row}.png",
                "class_name": "category", "environment": "country_code",
                "group": "{img_path:parent}",  # images of one place at several times
            },
            "lookup": {
                "environment": {
                    "table": "country_code_mapping.csv", "key": "alpha-3", "name": "region", "other": "Other"
                }
            },
            "splits": ["train", "val", "test"], "classes_differ": True,
        },
    ),
    # Class names are from dassl/data/datasets/dg/wilds/camelyon17.py of KaiyangZhou/Dassl.pytorch.
    DatasetFacts(
        name="Camelyon17", folder="camelyon17_v1.0", classes=2,
        environments=dict.fromkeys("01234"),  # hospitals
        licence="CC0-1.0",
        citation=f"Bandi et al.: the CAMELYON17 challenge, IEEE Transactions on Medical Imaging 2018; {_KOH}",
        obtain=_WILDS, counts="of WILDS v1.0, in all, from the literature", total=455954,
        reads={
            "layout": "table", "table": "metadata.csv",
            "columns": {
                "path": "patches/patient_{patient}_node_{node}/"
                "patch_patient_{patient}_node_{node}_x_{x_coord}_y_{y_coord}.png",
                "class_name": "tumor", "environment": "center", "group": "slide",
            },
            "lookup": {"class_name": {"values": {"0": "healthy tissue", "1": "tumor tissue"}}},
        },
    ),
    # The environments are the common contexts of the track with 60 classes, as in xxgege/NICO-plus and in the NICO
    # challenge of ECCV 2022.
    DatasetFacts(
        name="NICO++", folder="NICO++", classes=60,
        environments=dict.fromkeys(("autumn", "dim", "grass", "outdoor", "rock", "water")),
        licence=_RESEARCH,
        citation="Zhang, He, Xu, Yu, Shen, Cui: NICO++, CVPR 2023",
        obtain="the NICO challenge's site; the root is track_1/public_dg_0416/train, which holds the six contexts",
        counts="in all, from the literature", total=88866,
    ),
    # The classes are ImageNet's. Each environment is a corrupted copy of the validation set with its 50,000 images.
    DatasetFacts(
        name="ImageNet-C", folder="imagenet-c", classes=1000,
        environments={f"{corruption}/{severity}": 50000 for corruption in _CORRUPTIONS for severity in range(1, 6)},
        licence="as Zenodo states it; the images are ImageNet's",
        citation="Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions, ICLR 2019",
        obtain="zenodo.org/record/2235448 (hendrycks/robustness); unpack its archives into one folder",
        reads={"layout": "corruptions"},
    ),
    DatasetFacts(
        name="emoji_styles", folder="emoji_styles", classes=10,
        environments=dict.fromkeys(("fluent", "high_contrast", "line_art", "noto", "openmoji", "twemoji"), 284),
        licence="Apache-2.0, MIT, CC-BY-4.0 and CC-BY-SA-4.0, by style: see NOTICE",
        citation="Noto Emoji, Twemoji, Fluent UI Emoji, OpenMoji; see NOTICE",
        obtain="built by `icm-bench demo` from npm packages", counts="checked when it is built",
        fingerprint="199cc1f1d195579c322cd5943f76fbdf170ff7949155d9546b8dc2b819c64469",
    ),
    # The encoder MiniLiT is trained on EmojiOne in colour, so the motifs of emojione_monotone are not new to it.
    DatasetFacts(
        name="emoji_styles_8", folder="emoji_styles_8", classes=10,
        environments=dict.fromkeys((
            "emojione_monotone", "fluent", "fluent_flat", "high_contrast", "line_art", "noto", "openmoji", "twemoji",
        ), 193),
        licence="Apache-2.0, MIT, CC-BY-4.0 and CC-BY-SA-4.0, by style: see NOTICE",
        citation="Noto Emoji, Twemoji, Fluent UI Emoji, OpenMoji, EmojiOne; see NOTICE",
        obtain="built at first use from npm packages", counts="checked when it is built",
        fingerprint="5529c82003799fff482da1e820ab488e85d32b204b9b4ac73e113f5181e8f345",
    ),
    DatasetFacts(
        name="icons", folder="icons", classes=48,
        environments={
            "coloured": 291, "coloured_outline": 362, "duotone": 355, "engraving": 362, "glyph": 452, "outline": 406,
        },
        licence="Apache-2.0, MIT, CC-BY-3.0 and CC-BY-4.0, by style: see NOTICE",
        citation="Streamline, IconPark, Phosphor, Game-icons, Material Design Icons, Tabler; see NOTICE",
        obtain="built at first use from npm packages", counts="checked when it is built",
        fingerprint="3b53a238280adaf7747373c2d32853a9dbbca2dd13f724d580dfceaffcca68f4",
    ),
)  # fmt: skip

CATALOG: Mapping[str, DatasetFacts] = {facts.name: facts for facts in _ALL}
DEMO_SET = "emoji_styles"
BUILT = frozenset({DEMO_SET, "emoji_styles_8", "icons"})  # from packages, if a recipe gives no root
MAX_DIFFERENCES = 12  # maximum number of differences that a note lists; it counts the others


def is_variant(name: str) -> bool:
    """Return whether a data set is ImageNet or one of its variants, which have one environment."""
    return name in CATALOG and CATALOG[name].single


def count_differences(facts: DatasetFacts, counts: Mapping[str, int], classes: int) -> list[str]:
    """Return the differences between a copy and the catalog, as sentences.

    `counts` maps the environments of the copy to their numbers of images; `classes` is its number of classes.
    """
    total = sum(counts.values())
    if total in facts.variants:
        return [f"this is {facts.variants[total]}"]
    differences = [
        f"{environment} has {counts.get(environment, 0)} images instead of {expected}"
        for environment, expected in facts.counted.items()
        if counts.get(environment, 0) != expected
    ]
    if facts.total is not None and total != facts.total:
        differences.append(f"{total} images instead of {facts.total}")
    differences += [f"{name} is absent" for name in facts.environments if name not in {*facts.counted, *counts}]
    differences += [f"{name} is not in the catalog" for name in counts if name not in facts.environments]
    if more := len(differences) - MAX_DIFFERENCES:
        differences = differences[:MAX_DIFFERENCES] + ([f"{more} more of that kind"] if more > 0 else [])
    if classes != facts.classes:
        differences.append(f"{classes} classes instead of {facts.classes}")
    return differences


# Name of an ImageNet variant -> file of its classes in timm, a dependency of open_clip, with one WordNet id per line.
_LISTS = dict.fromkeys(("ImageNet", "ImageNetV2", "ImageNet-Sketch", "ImageNet-C"), "imagenet_synsets.txt")
_LISTS |= {"ImageNet-R": "imagenet_r_synsets.txt", "ImageNet-A": "imagenet_a_synsets.txt"}


@functools.cache
def class_subset(name: str) -> tuple[str, ...] | None:
    """Return the sorted WordNet ids of the classes of an ImageNet variant; None for other data sets."""
    if name not in _LISTS:
        return None
    content = pkgutil.get_data("timm.data", f"_info/{_LISTS[name]}")
    assert content is not None
    return tuple(sorted(content.decode("ascii").split()))


def human_names(wordnet_ids: Sequence[str]) -> list[str]:
    """Return open_clip's English name for each WordNet id: the class name in its zero-shot prompts for ImageNet."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    every = class_subset("ImageNet")
    assert every is not None
    names = dict(zip(every, IMAGENET_CLASSNAMES, strict=True))
    return [names[wordnet_id] for wordnet_id in wordnet_ids]


def wordnet_ids(name: str, class_names: Sequence[str], place: str) -> list[str]:
    """Return the WordNet ids of the classes in a copy of the ImageNet variant `name`. `place` names the copy.

    A class name is a WordNet id or, as in the folders of ImageNetV2, a number. Numbers are positions among the sorted
    ids of the variant. If any number is too large for the variant, all numbers are positions among the sorted ids of
    ImageNet.
    """
    subset, every = class_subset(name), class_subset("ImageNet")
    assert subset is not None and every is not None  # noqa: PT018
    numbers = [int(class_name) for class_name in class_names if class_name.isdecimal()]
    numbered = dict(enumerate(subset if max(numbers, default=0) < len(subset) else every))
    ids = [numbered.get(int(c), c) if c.isdecimal() else c for c in class_names]
    for class_name, wordnet_id in zip(class_names, ids, strict=True):
        if wordnet_id not in subset:
            raise IcmBenchError(
                f"'{class_name}' in {place} is none of the {len(subset)} classes of {name}, which are WordNet ids like "
                f"{subset[0]}; set its root to the folder of its classes, or give the data set a name of your own."
            )
    return ids

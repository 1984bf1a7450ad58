"""What is known of the benchmark data sets: environments, counts, licence, citation, how to obtain them.

Counts of PACS and VLCS were checked against file lists; the others are from the literature, so a mismatch is a
warning that names the difference and not an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DatasetFacts:
    """Facts of one data set.

    Attributes:
        name: name of the data set in recipes.
        folder: its folder below the root, as DomainBed names it.
        environments: environment -> number of images; one of them where the set is a single environment.
        classes: number of classes.
        licence: the licence in words.
        citation: the publication to cite.
        obtain: where a copy comes from.
        counts: where the numbers of images come from.
        variants: other image totals that circulate -> what that copy is.
        fingerprint: SHA-256 (hex) of the reference copy's manifest; None where it is not known.
    """

    name: str
    folder: str
    environments: Mapping[str, int]
    classes: int
    licence: str
    citation: str
    obtain: str
    counts: str = "from the literature"
    variants: Mapping[int, str] = field(default_factory=dict)
    fingerprint: str | None = None

    @property
    def single(self) -> bool:
        """Whether the set is one environment, its folders being classes: ROOT/FOLDER/CLASS/IMAGE."""
        return len(self.environments) == 1

    @property
    def images(self) -> int:
        """Number of images over all environments."""
        return sum(self.environments.values())


_DOMAINBED = "DomainBed's download script (domainbed.scripts.download) unpacks it in this layout"
_AUTHORS = "the authors' repository"
_RESEARCH = "no licence stated by the authors; for research use"

_ALL = (
    DatasetFacts(
        name="PACS",
        folder="PACS",
        environments={"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929},
        classes=7,
        licence=_RESEARCH,
        citation="Li, Yang, Song, Hospedales: Deeper, Broader and Artier Domain Generalization, ICCV 2017",
        obtain=_DOMAINBED,
        counts="checked against file lists",
    ),
    DatasetFacts(
        name="VLCS",
        folder="VLCS",
        environments={"Caltech101": 1415, "LabelMe": 2656, "SUN09": 3282, "VOC2007": 3376},
        classes=5,
        licence=_RESEARCH,
        citation="Fang, Xu, Rockmore: Unbiased Metric Learning, ICCV 2013",
        obtain=_DOMAINBED,
        counts="checked against file lists",
    ),
    DatasetFacts(
        name="OfficeHome",
        folder="office_home",
        environments={"Art": 2427, "Clipart": 4365, "Product": 4439, "Real World": 4357},
        classes=65,
        licence="for non-commercial research and education",
        citation="Venkateswara, Eusebio, Chakraborty, Panchanathan: Deep Hashing Network, CVPR 2017",
        obtain=_DOMAINBED,
    ),
    DatasetFacts(
        name="TerraIncognita",
        folder="terra_incognita",
        environments={"location_38": 9736, "location_43": 3970, "location_46": 5883, "location_100": 4741},
        classes=10,
        licence="CDLA-Permissive-1.0 (Caltech Camera Traps)",
        citation="Beery, Van Horn, Perona: Recognition in Terra Incognita, ECCV 2018",
        obtain=_DOMAINBED,
        variants={24788: "the 24,788-image list that also circulates"},
    ),
    DatasetFacts(
        name="DomainNet",
        folder="domain_net",
        environments={
            "clipart": 48129,
            "infograph": 51605,
            "painting": 72266,
            "quickdraw": 172500,
            "real": 172947,
            "sketch": 69128,
        },
        classes=345,
        licence="for non-commercial research (fair use notice of the authors)",
        citation="Peng, Bai, Xia, Huang, Saenko, Wang: Moment Matching for Multi-Source DA, ICCV 2019",
        obtain=_DOMAINBED + ", with the duplicates removed",
        variants=dict.fromkeys((596006, 596010), "the unpruned copy, with duplicates"),
    ),
    *(
        DatasetFacts(
            name=name,
            folder=folder,
            environments={folder: images},
            classes=classes,
            licence=licence,
            citation=citation,
            obtain=f"{source}; one folder per WordNet id",
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
    DatasetFacts(
        name="emoji_styles",
        folder="emoji_styles",
        environments=dict.fromkeys(("fluent", "high_contrast", "line_art", "noto", "openmoji", "twemoji"), 284),
        classes=10,
        licence="Apache-2.0, MIT, CC-BY-4.0 and CC-BY-SA-4.0, by style: see NOTICE",
        citation="Noto Emoji, Twemoji, Fluent UI Emoji, OpenMoji; see NOTICE",
        obtain="built by `icm-bench demo` from npm packages",
        counts="checked when it is built",
        fingerprint="199cc1f1d195579c322cd5943f76fbdf170ff7949155d9546b8dc2b819c64469",
    ),
)  # fmt: skip

CATALOG: Mapping[str, DatasetFacts] = {facts.name: facts for facts in _ALL}
DEMO_SET = "emoji_styles"


def is_variant(name: str) -> bool:
    """Say whether a data set is ImageNet or one of its variants: a single environment with classes of ImageNet's."""
    return name in CATALOG and CATALOG[name].single


def count_differences(facts: DatasetFacts, counts: Mapping[str, int], classes: int) -> list[str]:
    """Compare a copy with the catalog.

    Args:
        facts: what the catalog says of the data set.
        counts: environment -> number of images found.
        classes: number of classes found.

    Returns:
        One clause for each difference, empty when all counts agree.
    """
    total = sum(counts.values())
    if total in facts.variants:
        return [f"this is {facts.variants[total]}"]
    differences = [
        f"{environment} has {counts.get(environment, 0)} images instead of {expected}"
        for environment, expected in facts.environments.items()
        if counts.get(environment, 0) != expected
    ]
    if facts.environments:
        differences += [f"{name} is not in the catalog" for name in counts if name not in facts.environments]
    if classes != facts.classes:
        differences.append(f"{classes} classes instead of {facts.classes}")
    return differences

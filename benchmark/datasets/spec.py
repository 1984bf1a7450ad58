"""What a recipe says of a data set."""

from pydantic import Field, field_validator

from benchmark.common.errors import IcmBenchError
from benchmark.common.spec import Spec

AUTO = "auto"


class ColumnsSpec(Spec):
    """Which columns of Parquet files, or fields of a WebDataset's .json members, say what of an image.

    Fields:
        image: the encoded image, by itself or as a struct of `bytes` and `path`; default: the column of that kind.
        environment: default: `environment`, `domain` or `env`, else the folder in which the file lies.
        class_name: default: `class_name`, `label`, `class` or `category`; a WebDataset's .cls member comes first.
        group: which images belong together, hence on one side of a split; default: `group`, if there is one.
    """

    image: str | None = None
    environment: str | None = None
    class_name: str | None = None
    group: str | None = None


class DatasetSpec(Spec):
    """Which images.

    Fields:
        name: a set of the catalog (`icm-bench datasets`), or a name of your own.
        root: the folder that holds the data set's folder, or that folder itself; a path or s3://. Default: `run.data`.
            The demo set needs none.
        layout: `folder` (ENVIRONMENT/CLASS/IMAGE), `parquet` (the Hugging Face image layout) or `webdataset` (tar
            shards); `auto` goes by what lies there; `my_package.my_module:MyReader` is a reader of your own.
        columns: which columns or fields say what of an image, in the layouts `parquet` and `webdataset`.
    """

    name: str = Field(min_length=1)
    root: str | None = None
    layout: str = AUTO
    columns: ColumnsSpec = ColumnsSpec()

    @field_validator("layout")
    @classmethod
    def _check_layout(cls, layout: str) -> str:
        from benchmark.datasets.readers import check_layout  # readers take their columns from here

        try:
            check_layout(layout)
        except IcmBenchError as error:
            raise ValueError(str(error)) from error
        return layout

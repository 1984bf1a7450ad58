"""Train a model elsewhere, from splits to import: `python docs/examples/fine_tuning.py SPLITS IMAGES PREDICTIONS`

SPLITS is what `icm-bench splits RECIPE --to SPLITS.parquet` wrote, IMAGES the folder of its data set, and PREDICTIONS a
CSV file for `icm-bench import RECIPE PREDICTIONS`. The model is a linear layer on pixels, so that it runs anywhere: put
your own, pretrained, in its place. Each weight decay is a setting: the report's rules choose by `source_score`.
"""

import sys
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

SIZE, STEPS, WEIGHT_DECAYS = 32, 60, (1e-4, 1e-1)
splits, folder, to = pd.read_parquet(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
splits = splits[splits["protocol"] == "held_out"]
classes = sorted(splits["class"].unique())


def pixels(path: str) -> Tensor:
    """Return an image as numbers between 0 and 1, shape (3, SIZE, SIZE)."""
    with Image.open(folder / path) as image:
        return pil_to_tensor(image.convert("RGB").resize((SIZE, SIZE))) / 255


def batch(images: pd.DataFrame) -> tuple[Tensor, Tensor]:
    """Return pixels and class numbers of some images."""
    stacked = torch.stack([pictures[path] for path in images["path"]])
    return stacked, torch.tensor([classes.index(name) for name in images["class"]])


def fitted(images: pd.DataFrame, weight_decay: float, seed: int) -> nn.Module:
    """Return a model trained on some images: empirical risk minimisation over all their environments."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, len(classes)))
    optimizer, (x, y) = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=weight_decay), batch(images)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


pictures = {path: pixels(path) for path in splits["path"].unique()}
lines, names = [], ["protocol", "held_out", "test_split", "seed", "fold"]
for test, images in splits.groupby(names):
    for decay in WEIGHT_DECAYS:
        x, y = batch(images[images["role_in_choice"] == "judge"])  # images of the sources that this fit has not seen
        score = (fitted(images[images["role_in_choice"] == "train"], decay, test[3])(x).argmax(1) == y).float().mean()
        tested = images[images["role"] == "test"]
        predicted = fitted(images[images["role"] == "train"], decay, test[3])(batch(tested)[0]).argmax(1)
        said = tested[["path", *names]].rename(columns={"path": "image"}).assign(method="ERM on pixels")
        lines.append(said.assign(predicted=[classes[i] for i in predicted], setting=decay, source_score=score.item()))
pd.concat(lines).to_csv(to, index=False)
print(f"{sum(map(len, lines))} predictions in {to}")

"""Write pairs of texts from images: `python docs/examples/captions.py IMAGES --model M --endpoint E --llm L --out FILE`

IMAGES is a recipe, or a folder of ENVIRONMENT/CLASS/IMAGE. M, an image-to-text model of transformers such as BLIP or
ViT-GPT2 (a folder, or a name on the hub), captions images. L, a language model behind an endpoint E of OpenAI's
protocol such as `http://localhost:8000/v1`, rewrites each caption; a key stands in the variable OPENAI_API_KEY.
`interventions: {text: {pairs: FILE}}` reads the pairs. FILE.journal has every answer as soon as it is there, and why it
makes no pair, if so; the same command goes on from there, and asks nothing again.
"""

import argparse
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import requests

from benchmark.backbones.loading import best_device
from benchmark.commands.preparing.imported_sets import manifest_of
from benchmark.common.storage.files import Storage
from benchmark.common.storage.places import check_address
from benchmark.datasets.manifest import Manifest
from benchmark.embedding.images import Geometry, decode
from benchmark.embedding.opening import UnreadableImage
from benchmark.recipe.loading import load_recipe, parse_recipe

PROMPT = (
    "Rewrite this caption of an image. Keep the object ({class_name}): its kind, its number and what it does, in the "
    "same words. Change all that surrounds it: place, background, light, weather, and the style of the picture. "
    "Answer with the rewritten caption alone: one sentence in plain English, about as long. Caption: {caption}"
)
FIT = Geometry((384, 384), "shortest", bilinear=False, fill=0)  # what large JPEGs are decoded for
IMAGES, AT_ONCE = 16, 8  # images of a class in an environment; requests that wait for an answer
REFUSAL = re.compile(r"((i.?m|i am|we.?re) )?(sorry|unable|afraid)\b|i (can.?t|cannot|won.?t)\b|as an ai\b", re.I)


class Captioner:
    """An image-to-text model of transformers; its weights are safetensors, and code beside them is not run."""

    def __init__(self, model: str) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        self.processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        network = AutoModelForImageTextToText.from_pretrained(model, trust_remote_code=False, use_safetensors=True)
        self.network = network.to(best_device()).eval()

    def caption(self, image: Any) -> str:
        """Return the likeliest caption of a Pillow image."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"].to(self.network.device)
        tokens = self.network.generate(pixel_values=pixels, max_new_tokens=40, do_sample=False)[0]
        return plain(self.tokenizer.decode(tokens, skip_special_tokens=True))


def plain(text: str) -> str:
    """Return a text on one line, without quotation marks around it and in characters that can be stored."""
    return " ".join(text.encode("utf-8", "replace").decode().replace("\0", " ").split()).strip('"“” ')


def answer(url: str, body: dict[str, Any]) -> tuple[str, str]:
    """Return what a language model answers, and why it ended there; redirects are not followed."""
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("OPENAI_API_KEY")) else {}
    for pause in (1, 4, 16, 64, 0):  # seconds after a request that failed; the last is not sent again
        try:
            response = requests.post(url, json=body, headers=headers, timeout=60, allow_redirects=False)
            if 300 <= response.status_code < 500 and response.status_code not in (408, 409, 425, 429):
                raise SystemExit(f"{url} refuses requests with HTTP {response.status_code}; see to options and key.")
            choice = response.json()["choices"][0]
            return plain(choice["message"]["content"] or ""), choice.get("finish_reason") or "stop"
        except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__} in place of an answer"
        time.sleep(pause)
    raise SystemExit(f"{url} does not answer ({why}); run again later: what was answered is kept.")


def problem(caption: str, rewrite: str, name: str, finish: str) -> str | None:
    """Return why a rewrite is no intervention; None if it is: the object stays, and something else changes."""
    texts = (re.findall(r"\w+", text.casefold()) for text in (caption, rewrite, name))
    before, after, own = ({word.removesuffix("s") for word in words} for words in texts)
    if finish != "stop" or REFUSAL.match(rewrite):
        return "cut off" if finish == "length" else "refused"
    if not after or before == after:
        return "says the same" if after else "empty"
    return f"'{name}' is gone" if own <= before and not own <= after else None


def captioned(row: dict[str, Any], manifest: Manifest, captioner: Captioner) -> dict[str, Any]:
    """Return id and class of an image with its caption, or with the reason for which it has none in `why`."""
    entry = {"image_id": row["image_id"], "class_name": row["class_name"]}
    (content,) = manifest.reader.read({name: [value] for name, value in row.items()})
    try:
        if isinstance(content, str):
            raise UnreadableImage(content)
        caption = captioner.caption(decode(content, FIT, formats=manifest.reader.formats))
    except UnreadableImage as error:
        return entry | {"why": f"cannot be read: {error}"}
    return entry | ({"caption": caption} if caption else {"why": "has an empty caption"})


def rewritten(entry: dict[str, Any], name: str, url: str, model: str) -> dict[str, Any]:
    """Return an entry with the rewrite of its caption; `why` is None where the two are a pair."""
    if "why" in entry:
        return entry
    prompt, seed = PROMPT.format(class_name=name, caption=entry["caption"]), int(entry["image_id"][:7], 16)
    message = {"role": "user", "content": prompt}
    rewrite, finish = answer(url, {"model": model, "messages": [message], "seed": seed})
    return entry | {"rewrite": rewrite, "seed": seed, "why": problem(entry["caption"], rewrite, name, finish)}


def main() -> None:
    """Caption images, have the captions rewritten, and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    for name in ("--model", "--endpoint", "--llm", "--out"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    check_address(url := f"{args.endpoint.rstrip('/')}/chat/completions", "--endpoint")
    is_folder, out, captioner = Path(args.images).is_dir(), Path(args.out).absolute(), None
    one = {"name": "captions", "datasets": [{"name": "images", "root": args.images}], "backbones": ["ViT-B-32"]}
    recipe = parse_recipe(one) if is_folder else load_recipe(args.images)
    origin, made = {"captioner": args.model, "model": args.llm, "prompt": PROMPT}, []
    with out.with_name(f"{out.name}.journal").open("a+b", buffering=0) as journal, ThreadPoolExecutor(AT_ONCE) as pool:
        journal.seek(0)
        *lines, torn = journal.read().split(b"\n")  # a killed run may have been writing the last one
        journal.truncate(journal.tell() - len(torn))
        known = {(e["dataset"], e["image_id"]): e for e in map(json.loads, lines) if origin.items() <= e.items()}
        for manifest in (manifest_of(recipe, dataset) for dataset in recipe.located()):
            names = dict(zip(manifest.classes, manifest.prompt_names, strict=True))
            origin["dataset"] = None if is_folder else manifest.name
            table = manifest.table.to_pandas().drop_duplicates("image_id").sort_values("image_id")  # hashes: by chance
            rows = table.groupby(["environment", "class_name"]).head(IMAGES).to_dict("records")
            lacking = [row for row in rows if (origin["dataset"], row["image_id"]) not in known]
            for start in range(0, len(lacking), AT_ONCE):
                captioner = captioner or Captioner(args.model)
                batch = [captioned(row, manifest, captioner) for row in lacking[start : start + AT_ONCE]]
                asked = [pool.submit(rewritten, e, names[e["class_name"]], url, args.llm) for e in batch]
                for entry in (future.result() | origin for future in as_completed(asked)):
                    journal.write(json.dumps(entry).encode() + b"\n")
                    known[entry["dataset"], entry["image_id"]] = entry
            made += [known[origin["dataset"], row["image_id"]] for row in rows]
    pairs = [{key: value for key, value in entry.items() if key != "why"} for entry in made if entry["why"] is None]
    Storage(str(out.parent)).write_bytes(out.name, b"".join(json.dumps(pair).encode() + b"\n" for pair in pairs))
    print(f"{len(pairs)} pairs of {len(made)} images in {out}")


if __name__ == "__main__":
    main()

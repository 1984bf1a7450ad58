"""What a recipe says of captions of its images and of their rewrites: the block `captions`."""

from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, field_validator, model_validator

from benchmark.common.spec import Spec

LOCAL = "hf:"  # before the name of a model of transformers, which runs on the cluster's own nodes
CAPTIONER = "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k"
PROMPT = (
    "Rewrite this caption of an image. Keep the object ({class_name}): its kind, its number and what it does, in the "
    "same words. Change all that surrounds it: place, background, light, weather, and the style of the picture. "
    "Answer with the rewritten caption alone: one sentence in plain English, about as long. Caption: {caption}"
)


class RewriterSpec(Spec):
    """The language model that rewrites captions.

    Fields:
        model: the model's name at the endpoint; `hf:NAME_OR_FOLDER` is one of transformers that runs on the nodes of
            the cluster (safetensors; the extra `transformers`), to which endpoint, key, rate and prices do not apply.
        base_url: address of an endpoint that speaks OpenAI's protocol, such as `https://api.openai.com/v1` or
            `http://localhost:8000/v1`; requests go to `/chat/completions` below it. Needed unless the model is local.
        key_env: name of the environment variable that holds the key; the key itself stands nowhere else. Default: none,
            and no key is sent.
        requests_per_minute: most requests in a minute, retries included; `null` for as many as are answered. Default
            60.
        at_once: number of requests that wait for an answer at the same time, 1 to 256. Default 8.
        timeout: seconds after which a request without a whole answer has failed. Default 60.
        retries: how often a request that failed is sent again, after 0.5 s, 1 s, 2 s ..., or when the endpoint says
            (`Retry-After`). Default 6.
        max_tokens: most tokens of an answer; one that is cut off is left out. Default 96.
        temperature: 0 for the likeliest words, above for more variety. Default 1.
        price_in: price of a million tokens that are sent, in any currency. Default: none; tokens alone are counted.
        price_out: price of a million tokens that are answered. Default: none.
        max_cost: most that all rewrites may cost, in the same currency, those of earlier runs included: where more is
            expected, no request is sent, or no further one. Default: no bound.
        body: further keys of each request, stronger than those above; `null` leaves one out, such as
            `{max_tokens: null, max_completion_tokens: 96}`. Default: none.
    """

    model: str = Field(min_length=1)
    base_url: str | None = None
    key_env: str | None = None
    requests_per_minute: PositiveFloat | None = 60.0
    at_once: int = Field(default=8, ge=1, le=256)
    timeout: float = Field(default=60.0, gt=0, le=1e7)
    retries: int = Field(default=6, ge=0, le=20)
    max_tokens: int = Field(default=96, ge=1)
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    price_in: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    price_out: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    body: dict[str, Any] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _without_secrets(cls, url: str | None) -> str | None:
        """Refuse what is no address, or holds a secret; the message must not repeat it."""
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address begins with http:// or https:// and a host.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address has no user, password, query or #; a key belongs into key_env's variable.")
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        """Refuse what is no name of a variable: it may be a key, which the message must not repeat."""
        if name is not None and not (name.isidentifier() and name.isascii()):
            raise ValueError("it is the name of an environment variable, such as OPENAI_API_KEY, and not the key.")
        return name

    @model_validator(mode="after")
    def _is_complete(self) -> "RewriterSpec":
        if not (self.is_local or self.base_url):
            raise ValueError(f"base_url: '{self.model}' needs the address of its endpoint; or name a local hf: model.")
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise ValueError("max_cost: a cost needs price_in and price_out.")
        return self

    @property
    def is_local(self) -> bool:
        """Whether it runs on the nodes of the cluster."""
        return self.model.startswith(LOCAL)


class CaptionsSpec(Spec):
    """Captions of the images and their rewrites, as `icm-bench captions` makes them; no other command looks here.

    Fields:
        to: JSONL file of the pairs, beside which a journal of all answers and a list of what was left out are written.
            Default: `interventions.text.pairs`.
        captioner: what describes an image: `open_clip:MODEL/PRETRAINED` (a generative model, or `open_clip:FOLDER`),
            `hf:NAME_OR_FOLDER` (image-to-text of transformers, the extra `transformers`), or `module:Class` of your
            own. Default: CoCa ViT-B/32, tuned on MSCOCO.
        rewriter: the language model that rewrites captions.
        prompt: what it is asked, with `{caption}` and, where wanted, `{class_name}` in it. The default asks it to keep
            the object and to change all that surrounds it.
        images: number of images of each class in each environment, drawn by `seed`; `null` for all. Default 16.
        seed: seed of that draw, and of the rewriter: each request has a seed of its own, from this one and the image.
            Default 0.
    """

    to: str | None = Field(default=None, min_length=1)
    captioner: str = Field(default=CAPTIONER, pattern=r"^[^:]+:.+$")
    rewriter: RewriterSpec
    prompt: str = PROMPT
    images: int | None = Field(default=16, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("prompt")
    @classmethod
    def _asks_of_the_caption(cls, prompt: str) -> str:
        if "{caption}" not in prompt:
            raise ValueError("the caption has no place in it; write {caption} where it goes.")
        return prompt

"""Asking an endpoint for rewrites: what it will cost is said before, what it did cost is counted after."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmark.commands.journal import Journal
from benchmark.common.endpoint import Endpoint, Pace, UnansweredError
from benchmark.common.errors import IcmBenchError
from benchmark.common.hashing import canonical_hash
from benchmark.common.progress import Progress
from benchmark.recipe.captions import RewriterSpec

FIRST = 32  # answers whose tokens tell what all will cost
CHARACTERS = 4.0  # of English in a token, as long as nothing was answered
ENVELOPE = 8.0  # tokens around a prompt, likewise
IN_A_ROW = 8  # questions without an answer after which the endpoint is given up
WHO = "rewriting captions"


@dataclass(frozen=True)
class Question:
    """A caption that is to be rewritten.

    Attributes:
        caption: to be rewritten.
        prompt: what is asked.
        seed: of this request.
    """

    caption: str
    prompt: str
    seed: int

    def body(self, spec: RewriterSpec) -> dict[str, Any]:
        """Return the request as OpenAI's protocol has it."""
        body = {
            "model": spec.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "temperature": spec.temperature,
            "max_tokens": spec.max_tokens,
            "seed": self.seed,
            **spec.body,
        }
        return {name: value for name, value in body.items() if value is not None}

    def key(self, spec: RewriterSpec) -> str:
        """Return what the answer is known by: all that it depends on."""
        return canonical_hash(["rewrite", spec.base_url, self.body(spec)])


Answered = Mapping[Question, Mapping[str, Any]]  # with what the journal says


@dataclass(frozen=True)
class Tokens:
    """Numbers of tokens, sent and answered."""

    sent: float = 0.0
    answered: float = 0.0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.sent + other.sent, self.answered + other.answered)

    def cost(self, spec: RewriterSpec) -> float | None:
        """Return what they cost; None where the recipe has no prices."""
        if spec.price_in is None or spec.price_out is None:
            return None
        return (self.sent * spec.price_in + self.answered * spec.price_out) / 1e6

    def text(self, spec: RewriterSpec) -> str:
        """Return them in words."""
        cost = self.cost(spec)
        return f"{self.sent:,.0f} tokens in, {self.answered:,.0f} out" + ("" if cost is None else f": {cost:.4g}")


def by_characters(questions: Sequence[Question]) -> Tokens:
    """Return what questions may take: tokens by the characters of prompts, answers as long as captions."""
    sent = sum(len(question.prompt) for question in questions) / CHARACTERS + ENVELOPE * len(questions)
    return Tokens(sent, sum(len(question.caption) for question in questions) / CHARACTERS)


def tokens_of(question: Question, entry: Mapping[str, Any]) -> Tokens:
    """Return what an answered question took, as the endpoint counts; by characters where it does not say."""
    guess = Tokens(len(question.prompt) / CHARACTERS + ENVELOPE, len(entry["text"]) / CHARACTERS)
    sent, answered = entry.get("tokens") or (None, None)
    return Tokens(guess.sent if sent is None else sent, guess.answered if answered is None else answered)


def took(answered: Answered) -> Tokens:
    """Return what answered questions took."""
    return sum((tokens_of(*pair) for pair in answered.items()), Tokens())


def measured(questions: Sequence[Question], answered: Answered) -> Tokens:
    """Return what questions may take by what others took that are answered, in proportion to their characters."""
    known, theirs, ours = took(answered), by_characters(list(answered)), by_characters(questions)
    return Tokens(known.sent * ours.sent / theirs.sent, known.answered * ours.answered / theirs.answered)


class Asking:
    """Asks an endpoint what the journal does not know, and keeps each answer in it at once.

    Args:
        spec: the endpoint, and how it is asked.
        journal: of all answers.
        notify: takes each line for the person who watches.

    Raises:
        IcmBenchError: the environment lacks the key.
    """

    def __init__(self, spec: RewriterSpec, journal: Journal, notify: Callable[[str], None]) -> None:
        self._spec, self._journal, self._notify = spec, journal, notify
        key = os.environ.get(spec.key_env) if spec.key_env else None
        if spec.key_env and not key:
            raise IcmBenchError("captions.rewriter.key_env: the environment has no variable of that name.")
        pace = Pace(spec.requests_per_minute)
        self._endpoint = Endpoint(spec.base_url or "", key, spec.timeout, spec.retries, pace)
        self.unanswered: dict[Question, str] = {}
        self.expected = Tokens()  # of the questions that this run asks, as last said before they were asked

    def ask(self, questions: Sequence[Question]) -> None:
        """Ask what was never answered, the first few alone, to say what the others will cost.

        Raises:
            IcmBenchError: it costs more than `max_cost`, or the endpoint refuses requests or answers none.
        """
        before = self._answered(questions)
        lacking = [question for question in questions if question not in before]
        if not lacking:
            return
        first = max(0, FIRST - len(before))
        self._expect(lacking, before, before)
        progress = Progress(WHO, len(lacking), "rewrites")
        with ThreadPoolExecutor(self._spec.at_once) as pool:
            try:
                self._all(pool, lacking[:first], progress)
                if 0 < first < len(lacking):
                    self._expect(lacking, before, self._answered(questions))
                self._all(pool, lacking[first:], progress)
            finally:
                self._endpoint.stop.set()  # whatever waits for its turn ends; answers that are under way are kept
        progress.close()

    def _answered(self, questions: Sequence[Question]) -> Answered:
        entries = ((question, self._journal.answers.get(question.key(self._spec))) for question in questions)
        return {question: entry for question, entry in entries if entry is not None}

    def _expect(self, lacking: Sequence[Question], before: Answered, known: Answered) -> None:
        """Say what questions will cost, by the answers that are known; refuse what costs too much."""
        spec = self._spec
        self.expected = measured(lacking, known) if known else by_characters(lacking)
        by = f"by {len(known)} answers" if known else f"a guess by their characters, until {FIRST} answers say better"
        self._notify(f"{WHO} with {spec.model}: {len(lacking)} to ask, {by}: about {self.expected.text(spec)}")
        cost, bound = (self.expected + took(before)).cost(spec), spec.max_cost
        if cost is not None and bound is not None and cost > bound:
            raise IcmBenchError(
                f"Rewrites would cost about {cost:.4g} in all, more than captions.rewriter.max_cost ({bound:g}): raise "
                f"it, or lower captions.images."
            )

    def _all(self, pool: ThreadPoolExecutor, questions: Sequence[Question], progress: Progress) -> None:
        """Ask questions, few at a time; give up where the endpoint answers none any more."""
        in_a_row = 0
        for question, error in _as_they_end(pool, self._one, questions, self._spec.at_once):
            if isinstance(error, UnansweredError):
                self.unanswered[question] = f"unanswered: {error}"
            elif error is not None:
                raise error
            in_a_row = in_a_row + 1 if error else 0
            if in_a_row >= IN_A_ROW:
                raise IcmBenchError(
                    f"{self._spec.base_url} left {in_a_row} requests in a row unanswered (the last: {error}); run "
                    f"again later: what was answered is kept."
                )
            progress.update()

    def _one(self, question: Question) -> None:
        answer = self._endpoint.ask(question.body(self._spec))
        tokens = [answer.tokens_in, answer.tokens_out]
        entry = {"text": answer.text, "finish": answer.finish, "refused": answer.refused, "tokens": tokens}
        self._journal.add([(question.key(self._spec), entry)])


def _as_they_end(
    pool: ThreadPoolExecutor, work: Callable[[Question], None], questions: Sequence[Question], at_once: int
) -> Iterator[tuple[Question, BaseException | None]]:
    """Yield questions with the error that each ended with; no more than some are under way."""
    left = iter(questions)
    running: dict[Future[None], Question] = {
        pool.submit(work, question): question for question in islice(left, at_once)
    }
    while running:
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            question = running.pop(done)
            for following in islice(left, 1):
                running[pool.submit(work, following)] = following
            yield question, done.exception()

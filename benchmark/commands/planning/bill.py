"""What a recipe costs on rented GPUs: hours and money of embedding, sweep and report, and what would be cheaper."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmark.commands.planning.estimate import EMBEDDING, REPORTING, Estimate, in_words
from benchmark.commands.planning.gpus import UNKNOWN, GpuSpeed, span

SWEEP = "sweep"  # from the start of the command on, with moments


@dataclass(frozen=True)
class Offer:
    """What somebody rents.

    Attributes:
        gpu: kind of GPU, as `l4`; None (default) where none is named.
        gpus: number of GPUs. Default 1.
        price: of an hour of a machine with one GPU, in the reader's currency; None (default) where none is given.
        spot_price: the same of a machine that may be taken away; None (default) where none is given.
    """

    gpu: str | None = None
    gpus: int = 1
    price: float | None = None
    spot_price: float | None = None


@dataclass(frozen=True)
class Charge:
    """What one stage takes, on all GPUs that are rented.

    Attributes:
        hours: at least, as a clock shows them.
        most: at most; None where nobody knows.
    """

    hours: float
    most: float | None

    def money(self, per_hour: float) -> tuple[float, float | None]:
        """Return what it costs, at least and at most, at a price of an hour of all machines."""
        return self.hours * per_hour, None if self.most is None else self.most * per_hour


@dataclass(frozen=True)
class Bill:
    """What a recipe costs.

    Attributes:
        offer: what is rented.
        charges: stage -> what it takes; those of which nothing is known are left out.
        speeds: backbone -> what one GPU makes; None where nobody knows.
        cores: that trials have in this.
        money: stage -> what it costs, at least and at most; empty without a price.
        cheaper: what would be, in words.
    """

    offer: Offer
    charges: dict[str, Charge]
    speeds: dict[str, GpuSpeed | None]
    cores: int
    money: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    cheaper: list[str] = field(default_factory=list)

    def text(self) -> list[str]:
        """Return it in some lines."""
        lines = [self._embedding()] if self.speeds else []
        for stage in (SWEEP, REPORTING) if self.speeds else (EMBEDDING, SWEEP, REPORTING):
            if charge := self.charges.get(stage):
                lines.append(f"{stage}: {_time(charge)} on {self.cores} cores{self._paid(stage)}")
        if self.money:
            least = sum(low for low, _ in self.money.values())
            # Without embedding by GPUs, or with some of their speeds alone, it is a part.
            most = None if None in self.speeds.values() else _sum(high for _, high in self.money.values())
            whole = span(least, most)
            unknown = "" if EMBEDDING in self.money or not self.speeds else ", without embedding"
            lines.append(f"together: {whole} (in the currency of --price){unknown}; cheaper: {'; '.join(self.cheaper)}")
        return lines

    def _embedding(self) -> str:
        """Return the line on embedding: GPU hours, what they cost, and where the speeds are from."""
        card = f"{self.offer.gpus} x {self.offer.gpu or 'GPU'}"
        unknown = [label for label, speed in self.speeds.items() if speed is None]
        charge = self.charges.get(EMBEDDING)
        if charge is None and self.offer.gpu is None:
            return "embedding on a GPU: no run on one is known: name its kind with --gpu"
        if charge is None:
            return f"embedding on {card}: {UNKNOWN}"
        hours = Charge(charge.hours * self.offer.gpus, charge.most and charge.most * self.offer.gpus)
        without = f", without {', '.join(unknown)} ({UNKNOWN})" if unknown else ""
        sources = dict.fromkeys(f"{s.where}{', not measured' if s.public else ''}" for s in self.speeds.values() if s)
        return (
            f"embedding: {span(hours.hours, hours.most)} GPU hours, {_time(charge)} on {card}"
            f"{self._paid(EMBEDDING)}{without}; {'; '.join(sources)}"
        )

    def _paid(self, stage: str) -> str:
        """Return what a stage costs, in words that follow a comma."""
        if stage not in self.money:
            return ""
        kept = "" if stage == EMBEDDING else " while the GPUs stay"
        return f", {span(*self.money[stage])}{kept}"


def billed(offer: Offer, estimate: Estimate, speeds: Mapping[str, GpuSpeed | None], views: int) -> Bill:
    """Return what a recipe costs.

    Args:
        offer: what is rented.
        estimate: how long sweep and report take.
        speeds: backbone -> what one GPU makes; empty where nothing is embedded.
        views: how many each backbone embeds.
    """
    known = [speed.hours(views) for speed in speeds.values() if speed]
    charges: dict[str, Charge] = {}
    if known:
        most = _sum(high for _, high in known)
        charges = {EMBEDDING: Charge(sum(low for low, _ in known) / offer.gpus, most and most / offer.gpus)}
    apart = {name: estimate.stages.get(name, 0.0) for name in (EMBEDDING, REPORTING)}
    seconds = {**apart, SWEEP: estimate.seconds - sum(apart.values())}
    hours = {name: s / 3600 for name, s in seconds.items() if s}
    charges = {name: Charge(h, None if estimate.unknown else h) for name, h in hours.items()} | charges
    bill = Bill(offer, charges, dict(speeds), estimate.cores)
    if offer.price is None:
        return bill
    money = {name: charge.money(offer.gpus * offer.price) for name, charge in charges.items()}
    return Bill(offer, charges, dict(speeds), estimate.cores, money, _cheaper(offer, money))


def _cheaper(offer: Offer, money: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """Return what would be cheaper, in words."""
    said = []
    later = sum(low for name, (low, _) in money.items() if name != EMBEDDING)
    if EMBEDDING in money and later:
        said.append(f"sweep and report elsewhere, on machines without GPUs: {span(later, later)} less")
    lost = "when one is taken away, two chunks of an encoder and the trials under way are computed again"
    if offer.spot_price is None or not offer.price:
        return [*said, f"spot machines (--spot-price says what they cost): {lost}"]
    share, most = offer.spot_price / offer.price, _sum(high for _, high in money.values())
    least = sum(low for low, _ in money.values()) * share
    return [*said, f"spot machines: {span(least, most and most * share)} together; {lost}"]


def _sum(values: Iterable[float | None]) -> float | None:
    """Return a sum; None where a part of it is not known."""
    known = list(values)
    return None if None in known else sum(filter(None, known))


def _time(charge: Charge) -> str:
    """Return a time in words; a range where its ends look different."""
    least = in_words(3600 * charge.hours)
    if charge.most is None:
        return f"at least {least}"
    most = in_words(3600 * charge.most)
    return least if least == most else f"{least} to {most}"

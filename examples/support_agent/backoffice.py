"""The shop behind the agent: orders, customers and policy documents, read from `data/`.

Every ticket gets its own `BackOffice`, so a refund in one ticket never changes another. Nothing here knows about agents
or telemetry; replace it with your own systems.
"""

import math
import re
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

DATA = Path(__file__).parent / "data"
TODAY = date(2026, 11, 20)
RELEVANT = 3.0
"""A search score below this says that the words match by chance: roughly more than one rare word must be shared."""


class Record(BaseModel):
    """A row of a data file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(Record):
    name: str
    price: float


class Order(Record):
    id: str
    customer: str
    status: str
    placed: date
    items: tuple[Item, ...]
    delivered: date | None = None
    expected: date | None = None
    carrier: str | None = None
    tracking: str | None = None
    last_scan: date | None = None
    final_sale: bool = False
    hold: str | None = None
    """Why the approver will say no; hidden from the agent."""

    @property
    def email(self) -> str:
        return f"{self.customer.lower().replace(' ', '.')}@example.com"

    @property
    def total(self) -> float:
        return round(sum(item.price for item in self.items), 2)


class Policy(Record):
    id: str
    title: str
    text: str


class Hit(Record):
    """A policy the search found."""

    id: str
    title: str
    content: str
    score: float


def load(name: str) -> Any:
    """The parsed YAML file `data/<name>.yaml`."""
    return yaml.safe_load((DATA / f"{name}.yaml").read_text())


ORDERS = {order.id: order for order in map(Order.model_validate, load("orders"))}
POLICIES = tuple(map(Policy.model_validate, load("policies")))
STOP_WORDS = re.compile(
    r"(a|an|and|are|as|be|by|can|do|does|for|from|have|how|i|if|in|is|it|me|my|of|on|or|that|the|to|was|we|what|when|"
    r"which|will|with|you|your)"
)


def terms(text: str) -> set[str]:
    """The words of `text` that carry meaning, roughly in the singular."""
    return {word.rstrip("s") for word in re.findall(r"[a-z]+", text.lower()) if not STOP_WORDS.fullmatch(word)}


INDEX = {policy.id: terms(f"{policy.title} {policy.text}") for policy in POLICIES}


def rarity(term: str) -> float:
    """Inverse document frequency; 0 for a word no policy uses."""
    found = sum(term in words for words in INDEX.values())
    return math.log(1 + len(POLICIES) / found) if found else 0.0


class BackOffice:
    """One ticket's view of the shop."""

    def __init__(self) -> None:
        self.orders = dict(ORDERS)

    def order(self, order_id: str) -> Order | None:
        return self.orders.get(order_id)

    def customer(self, email: str) -> str | None:
        """The name that goes with an e-mail address."""
        return next((order.customer for order in self.orders.values() if order.email == email), None)

    def search(self, query: str, top_k: int) -> list[Hit]:
        """The best `top_k` policies for `query`: shared words weighted by rarity, words of the title twice."""
        wanted = terms(query)
        scored = [
            (sum(rarity(t) * (1 + (t in terms(p.title))) for t in sorted(wanted & INDEX[p.id])), p) for p in POLICIES
        ]
        best = sorted((pair for pair in scored if pair[0] >= RELEVANT), key=lambda pair: (-pair[0], pair[1].id))[:top_k]
        return [Hit(id=p.id, title=p.title, content=p.text, score=round(score, 3)) for score, p in best]

    def set_status(self, order_id: str, status: str) -> Order:
        """Change an order's state; a KeyError if there is no such order."""
        self.orders[order_id] = order = self.orders[order_id].model_copy(update={"status": status})
        return order

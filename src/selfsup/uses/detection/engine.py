"""What a detector learns, without scikit-learn around it: scaled rows in, scores by member out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.keys import hash64
from selfsup.models.autoencoder_ensemble import AutoEncoderEnsemble
from selfsup.uses.detection.references import Subsets, draw_subsets
from selfsup.uses.detection.training import CLIP, train_ensemble

Measure = Literal["default", "input-distance", "code-distance", "reconstruction", "masked-features"]
MEASURES: tuple[str, ...] = (
    "default",
    "input-distance",
    "code-distance",
    "reconstruction",
    "masked-features",
)
REFERENCES = 4096
"""Training rows that are kept at most."""
_FAR = 12.0
"""The network's input is cut here when scoring; distances see the whole value."""
_PLACES = 1 << 21
"""Numbers of the networks that are held at once."""
_GROUPS, _ROUNDS = 4, 2
"""Masked features: columns are hidden in so many groups, in so many random groupings."""

_MARK_ERROR = 0.5
"""Errors in marks of gaps are divided by this share of a mark at least."""

Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """How the engine is trained and what it compares with."""

    measure: Measure
    members: int
    hidden: int
    code_size: int
    steps: int
    batch_size: int
    learning_rate: float
    corruption: float
    subsets: int
    subset_size: int
    seed: int
    device: str


class Engine:
    """The ensemble, the references and their subsets.

    Args:
        plan: settings.
        width: columns of the scaled rows.
    """

    def __init__(self, plan: Plan, width: int) -> None:
        self.plan, self.width = plan, width
        self.random = np.random.default_rng(plan.seed)
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.model = AutoEncoderEnsemble(
            plan.members, width, plan.hidden, plan.code_size, self.generator
        ).to(plan.device)
        self.references = np.zeros((0, width))
        self.folds = np.zeros(0, np.int64)
        self.aside = np.zeros((0, width))
        """Rows that nothing was learned from and that calibrate nevertheless, in random order."""
        self.subsets = np.zeros((plan.members, 0, 0), np.int64)
        self.code_scale = np.ones((plan.members, plan.code_size))
        self.code_weight = 0.0
        self.error_scale = np.ones((plan.members, width))
        self.marks: tuple[int, ...] = ()
        """Columns that mark gaps: 0, or for those rows one other number."""
        self.seen = 0

    # ---- learning ------------------------------------------------------------------------------

    def learn(self, rows: Rows) -> None:
        """Train on rows (rows, width), and take some as references; may be called again.

        Rows that are fewer than the references are learned together with these: alone they would leave a
        member without rows, or make it forget the others.
        """
        plan = self.plan
        before = len(self.references) if len(rows) < len(self.references) else 0
        together = np.concatenate([self.references[:before], rows])
        all_folds = self._folds(together)
        all_folds[:before] = self.folds[:before]
        folds = all_folds[before:]
        train_ensemble(
            self.model.float(),
            together,
            all_folds,
            steps=plan.steps,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            corruption=plan.corruption,
            generator=self.generator,
        )
        self.model.double()
        self._keep(rows, folds)
        self._measure()

    def _folds(self, rows: Rows) -> NDArray[np.int64]:
        """(rows,) which member leaves a row out, drawn by the row's content: its copies share its fold,
        also in later calls.  -1, none, where a member would be left without rows.
        """
        if self.plan.members < 2:
            return np.full(len(rows), -1, np.int64)
        keys = _keys_of(rows, self.plan.seed)
        folds = (keys % np.uint64(self.plan.members)).astype(np.int64)
        return folds if len(np.unique(folds)) > 1 else np.full(len(rows), -1, np.int64)

    def _keep(self, rows: Rows, folds: NDArray[np.int64]) -> None:
        """A uniform sample of all rows seen so far (Vitter 1985, by blocks)."""
        before, self.seen = self.seen, self.seen + len(rows)
        room = min(REFERENCES, self.seen)
        fresh = room if not before else int(self.random.binomial(room, len(rows) / self.seen))
        fresh = min(max(fresh, room - len(self.references)), len(rows))
        if len(self.references):
            stay = round(len(self.aside) * (room - fresh) / len(self.references))
            self.aside = self.aside[:stay]
        old = self.random.permutation(len(self.references))[: room - fresh]
        new = self.random.permutation(len(rows))[:fresh]
        self.references = np.concatenate([self.references[old], rows[new]])
        self.folds = np.concatenate([self.folds[old], folds[new]])
        allowed = [np.flatnonzero(self.folds != m) for m in range(self.plan.members)]
        allowed = [own if len(own) else np.arange(len(self.folds)) for own in allowed]
        self.subsets = draw_subsets(allowed, self.plan.subsets, self.plan.subset_size, self.random)

    def set_aside(self, rows: Rows) -> None:
        """Keep rows (rows, width) that were left out of learning, in the references' share of all rows."""
        count = round(len(rows) * len(self.references) / self.seen)
        self.aside = rows[self.random.permutation(len(rows))[:count]]

    def _measure(self) -> None:
        """How wide codes and errors are on the references."""
        codes, errors = self._codes(self.references), self._errors(self.references)
        self.code_scale = np.maximum(codes.std(axis=1), 1e-6)
        # one far value in a column would else make codes outweigh all that rows say
        mean_width = float(self.references.clip(-CLIP, CLIP).std(axis=0).mean())
        self.code_weight = mean_width * float(np.sqrt(self.width / self.plan.code_size))
        own = np.arange(self.plan.members)[:, None] == self.folds
        scales = []  # a new array: that of a pickle may lie in a file that is only read
        for member in range(self.plan.members):  # errors on rows that the member has not seen
            mine = own[member] if own[member].sum() > 1 else slice(None)
            scales.append(errors[member, mine].clip(max=_FAR).mean(axis=0) + 1e-3)
        self.error_scale = np.stack(scales)
        marks = list(getattr(self, "marks", ()))  # pickles of before 2026-11-27 have none
        if marks:
            # a mark that is rare is hardly ever wrong, and would be all that counts where it is
            least = _MARK_ERROR * np.ptp(self.references[:, marks], axis=0)
            self.error_scale[:, marks] = np.maximum(self.error_scale[:, marks], least)

    # ---- reading -------------------------------------------------------------------------------

    def _tensor(self, rows: Rows) -> Tensor:
        cut = torch.from_numpy(np.clip(rows, -_FAR, _FAR)).to(self.plan.device)
        return cut.expand(self.plan.members, -1, -1)

    @torch.no_grad()
    def _codes(self, rows: Rows) -> Rows:
        """(members, rows, code_size)."""
        return np.asarray(self.model.encode(self._tensor(rows)).z.cpu().numpy())

    @torch.no_grad()
    def _errors(self, rows: Rows) -> Rows:
        """(members, rows, width) absolute errors of the reconstruction or of masked columns."""
        x = self._tensor(rows)
        whole = torch.tensor(rows, device=self.plan.device)
        if self.plan.measure != "masked-features":
            guess, _ = self.model(x)
            return np.asarray((guess - whole).abs().cpu().numpy())
        total = torch.zeros_like(x)
        random = np.random.default_rng(self.plan.seed)
        groups = min(_GROUPS, self.width)
        for _ in range(_ROUNDS):
            order = random.permutation(self.width) % groups
            for group in range(groups):
                hidden = torch.from_numpy(order == group).to(x.device)
                guess, _ = self.model(x * ~hidden)
                total += (guess - whole).abs() * hidden
        return np.asarray((total / _ROUNDS).cpu().numpy())

    def codes(self, rows: Rows) -> Rows:
        """(rows, members * code_size) all members' codes."""
        parts = [np.concatenate(list(self._codes(block)), axis=1) for block in self._blocks(rows)]
        return np.concatenate(parts)

    @torch.no_grad()
    def decode(self, codes: Rows) -> Rows:
        """(rows, width) the mean over members of what they make of their codes."""
        z = codes.reshape(len(codes), self.plan.members, -1).transpose(1, 0, 2).copy()
        decoded = self.model.decode(torch.from_numpy(z).to(self.plan.device))
        return np.asarray(decoded.mean(0).cpu().numpy())

    @property
    def block(self) -> int:
        """Rows that are judged at once; in other blocks scores would differ by their rounding."""
        places = max(self.plan.members * self.plan.hidden, self.width)
        return int(np.clip(_PLACES // places, 16, 8192))

    def _blocks(self, rows: Rows) -> list[Rows]:
        return [rows[i : i + self.block] for i in range(0, len(rows), self.block)]

    def score(self, rows: Rows) -> Rows:
        """(rows, members) how strange each member finds each row; higher is stranger."""
        return np.concatenate([self._judge(block)[0] for block in self._blocks(rows)])

    def explain(self, rows: Rows) -> Rows:
        """(rows, width) what each column adds, in the score's own measure (squares of distances)."""
        return np.concatenate([self._judge(block, parts=True)[1] for block in self._blocks(rows)])

    def judge(self, rows: Rows) -> Iterator[tuple[Rows, Rows]]:
        """`total` and `explain`, block by block, from one comparison."""
        for block in self._blocks(rows):
            by_member, parts = self._judge(block, parts=True)
            yield self._counted(block, by_member), parts

    def held_out(self) -> Rows:
        """(references + aside,) `total` of rows that stand for all of training, each judged by what has
        not seen it.
        """
        own = self._held_out()
        return np.concatenate([own, self.total(self.aside)]) if len(self.aside) else own

    def _held_out(self) -> Rows:
        """(references,) `total` of the references, where only the member that counts is asked."""
        scores = np.empty(len(self.references))
        alone = np.flatnonzero(self.folds < 0)
        if len(alone) or self.plan.measure in ("reconstruction", "masked-features"):
            return self.total(self.references)
        for member in range(self.plan.members):
            own = np.flatnonzero(self.folds == member)
            for places in np.array_split(own, max(1, len(own) // 512)):
                view = self._views(self.references[places])[member]
                (found,) = self._drawn().nearest([view], [member])
                scores[places] = found.distances.mean(axis=1)
        return scores

    def _judge(self, rows: Rows, parts: bool = False) -> tuple[Rows, Rows]:
        if self.plan.measure in ("reconstruction", "masked-features"):
            errors = self._errors(rows) / self.error_scale[:, None]
            return errors.mean(axis=2).T, errors.mean(axis=0)
        everyone = range(self.plan.members)
        scores = np.empty((len(rows), self.plan.members))
        shares = np.zeros((len(rows), self.width)) if parts else np.zeros((0, 0))
        for member, found in enumerate(self._drawn().nearest(self._views(rows), everyone)):
            scores[:, member] = found.distances.mean(axis=1)
            for places in found.places.T if parts else ():
                shares += np.square(rows - self.references[places])
        return scores, shares / (self.plan.members * self.plan.subsets)

    def _views(self, rows: Rows) -> list[Tensor]:
        """For each member, the space in which distances are measured: row, code, or both."""
        if self.plan.measure == "input-distance":
            return [torch.tensor(rows, device=self.plan.device)] * self.plan.members
        codes = self._codes(rows) / self.code_scale[:, None]
        if self.plan.measure == "default":
            codes = codes * self.code_weight
            views = [np.concatenate([rows, own], axis=1) for own in codes]
        else:
            views = list(codes)
        return [torch.from_numpy(view).to(self.plan.device) for view in views]

    def _drawn(self) -> Subsets:
        known = getattr(self, "_kept_drawn", None)
        if known is None or known[0] is not self.subsets:
            common = 0 if self.plan.measure == "code-distance" else self.width
            drawn = Subsets(self._views(self.references), self.subsets, common)
            known = self._kept_drawn = (self.subsets, drawn)
        return known[1]

    def total(self, rows: Rows) -> Rows:
        """(rows,) the mean over members; a row that is a reference is judged by the one member that
        has not seen it, so that training rows are not taken for more usual than they are.
        """
        return self._counted(rows, self.score(rows))

    def _counted(self, rows: Rows, by_member: Rows) -> Rows:
        """`total` of scores (rows, members)."""
        folds = self._folds_of_references(rows)
        own = by_member[np.arange(len(rows)), np.maximum(folds, 0)]
        return np.asarray(np.where(folds >= 0, own, by_member.mean(axis=1)))

    def _folds_of_references(self, rows: Rows) -> NDArray[np.int64]:
        """(rows,) the member that has not seen a row that is a reference; -1 for others."""
        known = getattr(self, "_kept_keys", None)
        if known is None or known[0] is not self.references:
            keys = _keys_of(self.references, self.plan.seed)
            order = np.argsort(keys)
            known = self._kept_keys = (self.references, keys[order], order)
        _, keys, order = known
        asked = _keys_of(rows, self.plan.seed)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        alike = np.flatnonzero(keys[at] == asked)
        found = order[at[alike]]
        same = (self.references[found] == rows[alike]).all(axis=1)
        folds = np.full(len(rows), -1, np.int64)
        folds[alike[same]] = self.folds[found[same]]
        return folds

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: without what can be worked out again."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_kept_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a pickle's; those of before 2026-11-26 hold subsets laid out in another way."""
        vars(self).update({k: v for k, v in state.items() if not k.startswith("_kept_")})


def _keys_of(rows: Rows, seed: int) -> NDArray[np.uint64]:
    """(rows,) 64 bits that are a function of a row's numbers: a keyed sum of products, and mixed."""
    bits = np.ascontiguousarray(rows + 0.0).view(np.uint64)  # -0 is 0
    bits ^= bits >> np.uint64(32)  # round numbers have nothing below
    factors = hash64(seed, np.arange(rows.shape[1])) | np.uint64(1)
    return hash64(seed, (bits * factors).sum(axis=1, dtype=np.uint64))

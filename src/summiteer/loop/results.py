"""Where finished runs are written."""

from dataclasses import replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.ascent import Ascent, Space
from summiteer.loop.working import Working, residual
from summiteer.outcome import outcomes
from summiteer.problem import Problem, Rows
from summiteer.trajectory import Tape


class Results:
    """Where finished runs are written, in the order of (restart, example).

    Args:
        points: `[restarts, batch, *input]` the starts.
        loss: dtype of the losses, which is the model's.
    """

    def __init__(self, points: Tensor, loss: torch.dtype) -> None:
        self._shape = points.shape
        flat = points.flatten(0, 1)
        # Every run ends and writes its own.
        self.final, self.best = torch.empty_like(flat), torch.empty_like(flat)
        self.wrong = torch.full_like(flat, torch.nan)
        self.residual = flat.new_full((len(flat),), torch.nan)
        self.losses = self.residual.to(loss, copy=True)
        self.best_loss = self.losses.clone()
        self.found = torch.zeros_like(self.losses, dtype=torch.bool)
        self.outcome = torch.zeros_like(self.losses, dtype=torch.int64)
        self.steps, self.period = (torch.zeros_like(self.outcome) for _ in range(2))
        self.zero_gradient = self.found.clone()

    def keep_period(self, now: Working) -> None:
        """Write the period of rows whose last step closed their first cycle."""
        if now.period is not None:
            index = ((now.period > 0) & now.running).nonzero().flatten()
            run = now.run[index]
            first = self.period[run] == 0
            self.period[run[first]] = now.period[index[first]]

    def close(
        self,
        step: int,
        rows: Rows,
        now: Working,
        outcome: Tensor,
        share: float,
    ) -> tuple[Rows, Working]:
        """Write rows that have just finished; drop them if at most `share` go on.

        Args:
            step: number of the step made last.
            rows: the problem at these rows.
            now: the rows.
            outcome: `[rows]` code of each one's `Outcome`, -1 where it goes on.
            share: of the rows.
        """
        finished = now.running & (outcome >= 0)
        index = finished.nonzero().flatten()
        if not len(index):
            return rows, now
        ended, done = rows, now
        if len(index) < len(finished):
            ended, done = rows.take(index), _rows.take(now, index)
        run = done.run
        final = ended.lift(done.points)
        self.final[run] = final
        self.losses[run] = done.evaluation.loss
        self.zero_gradient[run] = done.evaluation.gradient_norm == 0
        # Lifting may cost as much as many steps: of each point once.
        other, found = (m.nonzero().flatten() for m in (~done.leading, done.found))
        best = _rows.take(done.best, other)
        self.best[run] = final
        self.best[run[other]] = ended.take(other).lift(best)
        self.best_loss[run] = done.best_loss
        wrong = _rows.take(done.wrong, found)
        self.wrong[run[found]] = ended.take(found).lift(wrong)
        self.found[run] = done.found
        self.outcome[run] = outcome[index]
        self.steps[run] = step
        if now.broken is not None:  # the step that broke does not count
            self.steps[run] -= now.broken[finished].long() if step else 0
        if now.reference is not None:
            self.residual[run] = residual(ended, done)
        now = replace(now, running=now.running & ~finished)
        left = now.running.nonzero().flatten()
        if len(left) <= share * len(now.run):
            return rows.take(left), _rows.take(now, left)
        return rows, now

    def ascent(
        self, problem: Problem, spent: int, tape: Tape | None, space: Space
    ) -> Ascent:
        """Put the runs together.

        Args:
            problem: what was maximised.
            spent: gradient evaluations.
            tape: what was recorded.
            space: where the runs were computed.
        """
        restarts, batch = self._shape[:2]

        def shaped(values: Tensor) -> Tensor:
            return values.reshape(restarts, batch, *values.shape[1:])

        best_loss = shaped(self.best_loss)
        winner = best_loss.argmax(0)
        example = torch.arange(batch, device=winner.device)
        found = shaped(self.found)
        first = found.byte().argmax(0)

        def of(run: Tensor, values: Tensor) -> Tensor:
            if restarts == 1:  # no copy
                return values
            return shaped(values)[run, example]

        return Ascent(
            final=shaped(self.final),
            best=of(winner, self.best),
            # -∞ is what best-so-far began with: no iterate had a finite objective.
            best_loss=best_loss.masked_fill(best_loss == -torch.inf, torch.nan)[
                winner, example
            ],
            best_restart=winner,
            losses=shaped(self.losses),
            residual=shaped(self.residual),
            misclassified=found.any(0) if problem.labelled else None,
            misclassified_points=of(first, self.wrong) if problem.labelled else None,
            outcome=outcomes(shaped(self.outcome)),
            steps=shaped(self.steps),
            period=shaped(self.period),
            zero_gradient=shaped(self.zero_gradient),
            rescue=torch.zeros(batch, dtype=torch.int8, device=winner.device),
            gradient_evaluations=spent,
            trajectory=tape.trajectory() if tape else None,
            space=space,
        )

"""An attack or an audit as the user named it: what workers are sent, and build again.

Model and data are never sent. Each worker process reads them once, as the driver does,
and makes sure that what comes of it is the driver's run.
"""

import io
import platform
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from summiteer.cli.options import adversary_of
from summiteer.cli.showing import shown
from summiteer.cli.source import (
    Network,
    Source,
    check_fits,
    from_data,
    from_property,
)
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.cells import Cell
    from summiteer.engine import Measurement
    from summiteer.runs import Command
    from summiteer.searching import Effort
    from summiteer.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """A job whose model and data were found and looked at.

    Attributes:
        source: what is attacked or audited.
        command: what is done to a block.
        spec: all that determines the result, but for the block size.
    """

    source: Source
    command: "Command"
    spec: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What the user named.

    Attributes:
        command: which.
        network: MODEL.
        own: the options that say what DATA and region are, by name.
        effort: of the search, or of an adversary of the user's own.
        seed: --seed.
        within: --within.
        screened: False with --no-screen.
        skip_bad: --skip-bad.
        claim: --property.
        adversary: --adversary.
        step_size: --step-size.
        until: whether --until misclassified.
        neighbours: --neighbours.
        adversarial: ADVERSARIAL of an audit.
    """

    command: Literal["attack", "audit"]
    network: Network
    own: tuple[tuple[str, Any], ...]
    effort: "Effort"
    seed: int
    within: float
    screened: bool
    skip_bad: bool
    claim: str | None = None
    adversary: str | None = None
    step_size: float | None = None
    until: bool = False
    neighbours: str | None = None
    adversarial: str | None = None

    def settings(self, **parts: Any) -> "Settings":
        """Everything but model and data.

        Args:
            parts: region, box, objective and mask, as far as DATA says them.
        """
        from summiteer.settings import Settings
        from summiteer.until import Misclassified

        adversary = adversary_of(
            self.adversary, parts["region"], self.effort.max_steps, self.step_size
        )
        fixed: dict[str, Any] = {
            "effort": self.effort,
            "adversary": adversary,
            "seed": self.seed,
            "until": Misclassified() if self.until else None,
            "within": self.within,
            "right_within": dict(self.own)["--tolerance"],
            "screened": self.screened,
        }
        return Settings(**fixed | parts)

    def prepared(self) -> Prepared:
        """Find and look at what was named; here, or on a worker."""
        if self.claim is None:
            source = from_data(
                self.network, dict(self.own), self.skip_bad, self.settings
            )
        else:
            source = from_property(self.network, self.claim, self.settings)
        if self.command == "audit":
            return self._audit(source)
        return self._attack(source)

    def _attack(self, source: Source) -> Prepared:
        from summiteer import runs

        own = dict(self.own)
        check_fits(source.problem, own["--tolerance"], own["--rivals"] or 0)
        source = shown(source, self.neighbours)
        command = runs.attack_command(source.population, source.settings)
        return Prepared(source, command, self._specification(source))

    def _audit(self, source: Source) -> Prepared:
        from summiteer import data as files
        from summiteer import runs
        from summiteer.auditing.given import looked_at

        population = source.population
        rows = files.aligned(
            files.open_adversarial(str(self.adversarial)),
            population.ids,
            source.total,
            source.problem.inputs.shape[1:],
        )
        look = looked_at(
            source.problem, population.part, rows, population.span, population.ids
        )
        digest = rows.digest("adversarial")
        names = {"adversarial": str(self.adversarial), "adversarial_digest": digest}
        source = source._replace(names=source.names | names)
        command = runs.audit_command(population, source.settings, look.given)
        return Prepared(source, command, self._specification(source))

    def _specification(self, source: Source) -> dict[str, Any]:
        from summiteer import runs

        return runs.specification(
            self.command, source.population, source.settings, source.names
        )


@dataclass(frozen=True)
class Remote:
    """A job's block, done by a worker; sent with every cell.

    Attributes:
        job: what the user named.
        folder: from which the user named files.
        run: the run's id.
        block_size: of the run.
    """

    job: Job
    folder: str
    run: str
    block_size: int

    def __call__(self, cell: "Cell") -> "Measurement":
        """What is recorded of a block.

        Args:
            cell: of the run.

        Raises:
            UserError: model or data are not there, or not the driver's.
        """
        from summiteer.runs import measured_block

        try:
            with chdir(self.folder):
                command = _command(self)
        except OSError as error:
            raise UserError(
                f"workers: the one on {platform.node()} cannot use "
                f"{error.filename or self.folder}: {error.strerror}; give all of them "
                "the files under the same names."
            ) from error
        with chdir(self.folder):
            return measured_block(command, cell)


@lru_cache(maxsize=1)
def _command(remote: Remote) -> "Command":
    """What the worker does to a block: made once by each of its processes."""
    from summiteer.cells import digest

    # The driver has said it already.
    with redirect_stderr(io.StringIO()):
        prepared = remote.job.prepared()
    run = digest({**prepared.spec, "block_size": remote.block_size})
    if run != remote.run:
        raise UserError(
            f"workers: the one on {platform.node()} finds another model or other data "
            "under the names that the driver was given; give all of them the same "
            "files, and a MODEL that has the same weights whenever it is made: seed "
            "it, or give --weights."
        )
    return prepared.command

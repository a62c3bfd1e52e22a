"""A run whose result is written, as pages see it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from summiteer.errors import UserError


@dataclass(frozen=True)
class Finished:
    """What a directory holds; arrays are in its `Store`.

    Attributes:
        directory: of the run.
        spec: of run.json: all that determined the result.
        result: content of result.json.
    """

    directory: Path
    spec: Mapping[str, Any]
    result: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read a run's run.json and result.json.

        Args:
            directory: of the run.

        Raises:
            UserError: there is no run, it has not come to its end, or it is damaged.
        """
        head = _json(directory / "run.json", f"{directory} holds no run of Summiteer")
        result = _json(
            directory / "result.json",
            f"{directory}: the run has not come to its end; its command, given again, "
            "goes on with it",
        )
        return cls(directory, dict(head["spec"]), result)

    @property
    def footer(self) -> str:
        """Where its page comes from."""
        return f"Summiteer {self.result['version']}, run {self.result['run']}."


def _json(path: Path, missing: str) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{missing} (no {path.name}).") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.") from None
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged: it is not the JSON of a run.") from None

"""Which page a run has: one is a function in a file of its own and a line below."""

from collections.abc import Callable, Mapping
from pathlib import Path

from summiteer.disk import explained, replaced
from summiteer.errors import UserError
from summiteer.report.attack_document import attack_document
from summiteer.report.audit_document import audit_document
from summiteer.report.claims_document import claims_document
from summiteer.report.document import Document
from summiteer.report.finished import Finished
from summiteer.report.landscape_document import landscape_document
from summiteer.report.page import page
from summiteer.report.study_document import study_document
from summiteer.report.training_document import training_document

#: Name of a command -> the page of its runs.
DOCUMENTS: Mapping[str, Callable[[Finished], Document]] = {
    "attack": attack_document,
    "audit": audit_document,
    "landscape": landscape_document,
    "reproduce": claims_document,
    "study": study_document,
    "train": training_document,
}
NAME = "report.html"


def document_of(run: Finished) -> Document:
    """The page of a run, as plain values.

    Args:
        run: of a command in `DOCUMENTS`.

    Raises:
        UserError: runs of its command have no page.
    """
    command = str(run.spec.get("command"))
    if command not in DOCUMENTS:
        raise UserError(
            f"{run.directory}: runs of `summiteer {command}` have no page; expected "
            f"one of {', '.join(DOCUMENTS)}."
        )
    return DOCUMENTS[command](run)


def write_page(directory: Path) -> Path:
    """Write report.html of a finished run, and return where it is.

    Args:
        directory: of the run.

    Raises:
        UserError: as for `Finished.read` and `document_of`; or it cannot be written.
    """
    place = directory / NAME
    text = page(document_of(Finished.read(directory)))
    with explained(place):
        # A name that is not UTF-8 has surrogates, which are shown by their numbers.
        replaced(place, text.encode("utf-8", "backslashreplace"))
    return place

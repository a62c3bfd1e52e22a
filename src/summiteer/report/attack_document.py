"""What an attack found, as a page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from summiteer.optimality import Verdict
from summiteer.report.attack_headline import attack_headline
from summiteer.report.document import (
    Block,
    Column,
    Document,
    Facts,
    Plot,
    Section,
    Value,
)
from summiteer.report.examined_plots import (
    accuracy_bars,
    bracket_plot,
    path_plots,
    residual_plot,
    restart_losses_plot,
    restarts_plot,
    steps_plot,
    verdict_bars,
)
from summiteer.report.examples_table import (
    Fields,
    examples_section,
    numbers_of_examples,
)
from summiteer.report.finished import Finished
from summiteer.report.methods_text import findings_section, methods_section
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import (
    at_least,
    at_most,
    objective_word,
    percent,
    region_words,
    rounded_up,
    share_above,
)


def attack_document(run: Finished) -> Document:
    """The page of `attack`.

    Args:
        run: of that command.

    Raises:
        UserError: its arrays are missing or damaged.
    """
    recorded = RecordedRun.of(run)
    searched = "source" in recorded.numbers
    steps = "Steps of the last way up" if searched else "Steps of the best run"
    return Document(
        title=title_of(run),
        lead=(*attack_headline(recorded), *weakened(run)),
        sections=(
            points_section(recorded),
            convergence_section(recorded, steps),
            findings_section(run.result),
            examples_section(recorded, _fields(recorded)),
            methods_section(recorded),
        ),
        footer=run.footer,
        facts=facts_of(run.result),
    )


def title_of(run: Finished) -> str:
    """What was done to what.

    Args:
        run: of an attack or an audit.
    """
    spec = run.spec
    done = str(spec["command"]).capitalize()
    what = spec.get("data", spec.get("property", "data"))
    return f"{done} of {spec.get('model', 'a model')} on {what}"


def weakened(run: Finished) -> tuple[str, ...]:
    """That something weakens the numbers, if it does.

    Args:
        run: of an attack or an audit.
    """
    findings = run.result["findings"]
    if not findings:
        return ()
    named = ", ".join(dict.fromkeys(finding["code"] for finding in findings))
    below = "to do" if any(finding["remedy"] for finding in findings) else "was seen"
    return (f"What weakens these numbers: {named}; below is what {below}.",)


def points_section(recorded: RecordedRun) -> Section:
    """Where the robust accuracy lies, and what the examined points are.

    Args:
        recorded: of the run.
    """
    plots = (
        accuracy_bars(recorded),
        verdict_bars(recorded),
        bracket_plot(recorded),
    )
    glosses = tuple(
        (name, Verdict[name].value) for name in recorded.run.result["verdicts"]
    )
    blocks: list[Block] = [plot for plot in plots if plot]
    return Section("What the points are worth", (*blocks, Facts(glosses)))


def convergence_section(recorded: RecordedRun, steps: str) -> Section:
    """Whether the runs had converged, and what they leave unseen.

    Args:
        recorded: of the run.
        steps: title of the chart of the steps.
    """
    plots: list[Plot | None] = [
        *path_plots(recorded),
        residual_plot(recorded),
        steps_plot(recorded, steps),
        restart_losses_plot(recorded),
        restarts_plot(recorded),
    ]
    return Section("Had it converged?", tuple(plot for plot in plots if plot))


def facts_of(result: Mapping[str, Any]) -> Mapping[str, str]:
    """The most important numbers, as far as they are known.

    Args:
        result: content of result.json.
    """
    robust = result.get("robust_accuracy", result.get("corrected_robust_accuracy"))
    proved = None if robust is None else result["proved_robust_accuracy"]
    shares = {
        "clean accuracy": (result["clean_accuracy"], percent),
        "robust, claimed": (result.get("claimed_robust_accuracy"), percent),
        "robust, at most": (robust, at_most),
        "robust, at least (proved)": (proved, at_least),
    }
    found = {"region": region_words(result["region"])}
    found |= {n: how(share) for n, (share, how) in shares.items() if share is not None}
    if "robust_accuracy" in result:
        loss, word = result["loss"], objective_word(result["objective"])
        for name, key in (("clean", "clean_mean"), ("attacked", "attacked_mean")):
            if loss[key] is not None:
                found[f"mean {word}, {name}"] = f"{loss[key]:.3g}"
    return found | {"examples": str(result["examples"])}


def _fields(recorded: RecordedRun) -> Fields:
    """What is said of every example."""
    numbers, word = recorded.numbers, objective_word(recorded.run.result["objective"])
    fields: list[tuple[Column, Sequence[Value]]] = []
    if recorded.run.result["clean_accuracy"] is not None:
        pairs = zip(
            numbers["correct"].tolist(), numbers["survived"].tolist(), strict=True
        )
        said = [
            "survived" if survived else "broken" if right else "wrong before"
            for right, survived in pairs
        ]
        fields.append((Column("result"), said))
    fields += [
        (Column("verdict"), recorded.verdicts()),
        (Column(f"{word}, clean"), numbers_of_examples(recorded, "clean_losses")),
        (Column(f"{word}, attacked"), numbers_of_examples(recorded, "losses")),
        (
            Column("residual", words="first-order residual, 0 at a stationary point"),
            numbers_of_examples(recorded, "residuals"),
        ),
    ]
    more: Mapping[str, tuple[Column, Callable[[float], Value]]] = {
        "loss_gap_bounds": (
            Column(
                "left to gain, at most",
                words="proved: what the maximum near the point can have more",
            ),
            rounded_up,
        ),
        "unseen_bound": (
            Column(
                "unseen, at most",
                "%",
                "95 % bound of the chance that one more restart finds another maximum",
            ),
            share_above,
        ),
    }
    for array, (column, rounded) in more.items():
        if array in numbers:
            fields.append((column, numbers_of_examples(recorded, array, rounded)))
    if "source" in numbers:
        fields.append((Column("found by"), recorded.named("source")))
    if "steps" in numbers:
        fields.append((Column("steps"), numbers["steps"].tolist()))
    return fields

"""What was run, as a paragraph ready for a methods section; and what the screen saw."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from summiteer.report.document import (
    Block,
    Code,
    Column,
    Facts,
    Fold,
    Prose,
    Section,
    Table,
)
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import coordinates_of, examined_in, radius_words

_NORMS = {
    "l2": "L2 ball",
    "linf": "L-infinity ball",
    "l1": "L1 ball",
    "sphere": "sphere",
}
_DONE = {
    "attack": "were attacked",
    "audit": "were audited with the adversarial examples of {adversarial}",
}
#: Ids shown of a finding's examples.
_SHOWN = 20


def methods_section(recorded: RecordedRun) -> Section:
    """What was run, to be copied.

    Args:
        recorded: of the run.
    """
    blocks = (
        *command_blocks(recorded.run.directory),
        Code(methods_text(recorded), "For a methods section", "methods.txt"),
        Facts(_facts(recorded)),
    )
    return Section("What was run", blocks)


def command_blocks(directory: Path) -> tuple[Block, ...]:
    """The command line as it was given; nothing where it is not noted.

    Args:
        directory: of any run.
    """
    try:
        said = json.loads((directory / "command.json").read_bytes())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # of an older version, or not from a command line
    return (Code(str(said), "The command"),)


def methods_text(recorded: RecordedRun) -> str:
    """What was run, in sentences.

    Args:
        recorded: of the run.
    """
    spec, result = recorded.run.spec, recorded.run.result
    done = _DONE[str(spec["command"])].format(adversarial=spec.get("adversarial"))
    data = f" of {spec['data']}" if "data" in spec else ""
    if "property" in spec:
        data = f" (the box of the property {spec['property']})"
    count = result["examples"]
    noun = "example" if count == 1 else "examples"
    last = int(recorded.numbers["ids"].max()) + 1
    if last > count:  # --skip-bad
        noun = f"of the first {last} examples"
    done = done.replace("were", "was") if count == 1 else done
    sentences = [
        f"The model {spec['model']} and {count} {noun}{data} {done} with Summiteer "
        f"{result['version']} (run {result['run']}).",
        _region(result),
        _effort(recorded),
        f"The points were examined in {examined_in(result)}; verdicts speak of maxima "
        f"within {spec.get('within', 1e-3):g} radii of a point, and proofs account for "
        "rounding.",
        _machine(recorded),
    ]
    return " ".join(each for each in sentences if each)


def _region(result: Mapping[str, Any]) -> str:
    region = result["region"]
    size, box = radius_words(region["radius"]), region["box"]
    name = _NORMS.get(region["norm"], region["norm"])
    limits = f", inputs in [{box[0]:g}, {box[1]:g}]" if box else ""
    free = coordinates_of(region)
    limits += f", with {free} free to move" if free else ""
    if result["command"] == "audit":
        return (
            f"The region was the {name} of radius {size}{limits}; given points outside "
            "were projected on it before they were examined. The objective was "
            f"{result['objective']}."
        )
    return (
        f"Perturbations were kept in the {name} of radius {size}{limits}; the "
        f"objective was {result['objective']}."
    )


def _effort(recorded: RecordedRun) -> str:
    spec, result = recorded.run.spec, recorded.run.result
    effort = spec.get("effort") or {}
    seed = f"seed {result['seed']}"
    if spec["command"] == "audit":
        return (
            f"From each given point and from the clean input, ascent of at most "
            f"{effort.get('max_steps')} steps was made ({seed})."
        )
    adversary, until = spec.get("adversary"), spec.get("until")
    stopped = "" if until in (None, "None") else f", each until {until}"
    if adversary in (None, "None"):
        return (
            f"The search spent at most {effort.get('budget')} gradient evaluations per "
            "example before settling and more steps, with up to "
            f"{effort.get('restarts')} random restarts of {effort.get('max_steps')} "
            f"steps{stopped} ({seed})."
        )
    rivals = effort.get("rivals")
    towards = f", also towards each of the {rivals} likeliest other classes"
    return (
        f"The adversary was {adversary} with at most {effort.get('max_steps')} steps, "
        f"from the clean input and {effort.get('restarts')} random points"
        f"{towards if rivals else ''}{stopped} ({seed})."
    )


def _machine(recorded: RecordedRun) -> str:
    places = recorded.environments

    def all_of(name: str) -> str:
        return ", ".join(sorted({str(each.get(name, "?")) for each in places}))

    code, threads = ", ".join(sorted({*map(_code, places)})), all_of("threads")
    seconds = recorded.run.result["seconds"]
    device = recorded.run.spec.get("device", "cpu")
    on = "" if device == "cpu" else f" and {device}"
    return (
        f"It was computed by Python {all_of('python')}, PyTorch {all_of('torch')} and "
        f"NumPy {all_of('numpy')} ({code}) on {all_of('cpu')}{on}, {threads} thread"
        f"{'' if threads == '1' else 's'}, in {seconds:.3g} s of computing."
    )


def _code(place: Mapping[str, Any]) -> str:
    """Which state of the code ran there."""
    if not place.get("commit"):
        return f"code {place['code']}" if place.get("code") else ""
    state = ", with changes" if place.get("dirty") else ""
    return f"commit {str(place['commit'])[:12]}{state}"


def _facts(recorded: RecordedRun) -> tuple[tuple[str, str], ...]:
    spec, result = recorded.run.spec, recorded.run.result
    found = [
        ("run", str(result["run"])),
        ("model", str(spec.get("model", ""))),
        ("weights", str(spec.get("weights", ""))),
        ("data", str(spec.get("data", spec.get("property", "")))),
        ("digest of the data", str(spec.get("digest", ""))),
        ("gradient evaluations", f"{result['gradient_evaluations']:,}"),
        ("block size", str(spec.get("block_size", ""))),
        ("files", ", ".join(_few(result["files"]))),
    ]
    machines = {
        f"{each.get('platform', 'unknown')}, {each.get('cpu', 'unknown')}, "
        f"{each.get('blas', 'unknown')}"
        for each in recorded.environments
    }
    found += [("machine", machine) for machine in sorted(machines)]
    return tuple(pair for pair in found if pair[1])


def _few(names: Sequence[str]) -> list[str]:
    rest = len(names) - 5
    return [*names[:5], f"and {rest} more"] if rest > 0 else list(names)


def findings_section(result: Mapping[str, Any]) -> Section:
    """What makes the numbers mean less than they seem to, and what to do.

    Args:
        result: content of result.json.
    """
    blocks: list[Block] = []
    for finding in result["findings"]:
        blocks.append(Prose(f"{finding['code']}: {finding['seen']}.", "warning"))
        pairs = [
            (name, str(finding[name])) for name in ("effect", "remedy") if finding[name]
        ]
        ids = finding["examples"]
        if ids:
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            pairs.append(("examples", ", ".join(map(str, ids[:_SHOWN])) + more))
        if pairs:
            blocks.append(Facts(tuple(pairs)))
    if not blocks:
        blocks.append(Prose("Nothing was found that weakens these numbers."))
    checks = result["screen"]["checks"]
    clear = sum(said == "clear" for said in checks.values())
    rows = tuple((code, said) for code, said in checks.items())
    columns = (Column("check"), Column("what it saw"))
    head, of = "The failure screen", ""
    if not result["screen"]["sample"]:
        head = "The failure screen was not run on model and data"
        of = " of the run itself"
    title = f"{head}: {clear} of {len(checks)} checks{of} are clear"
    blocks.append(Fold(title, (Table("", columns, rows),)))
    return Section("What weakens these numbers", tuple(blocks))

"""The command line is noted beside a run, and shown on its page as it was given."""

import json
import shlex

import pytest

from planted_runs import arrays_of, planted
from summiteer.report.document import Code
from summiteer.report.methods_text import command_blocks
from summiteer.report.page import page
from summiteer.report.pages import document_of

COMMON = ("--norm", "linf", "--radius", "0.1", "--box", "0,1")
COMMANDS = {
    "attack": (*COMMON, "--limit", "2", "--steps", "2", "--restarts", "1"),
    "landscape": (*COMMON, "--example", "0", "--restarts", "2", "--steps", "3"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_command_stays(run_cli, tmp_path, model_file, command):
    out = tmp_path / "a place" / "out"
    given = [command, f"{model_file}:classifier", "digits", *COMMANDS[command]]
    given += ["--out", str(out)]
    code, _, said = run_cli(*given, "--no-report")
    assert code == 0, said
    noted = json.loads((out / "command.json").read_text())
    assert set(noted) == {"command"}
    assert shlex.split(noted["command"]) == ["summiteer", *given, "--no-report"]
    before = (out / "result.json").read_bytes()
    assert run_cli(*given, "--json")[0] == 0
    assert json.loads((out / "command.json").read_text()) == noted
    assert (out / "result.json").read_bytes() == before
    if command == "attack":
        assert noted["command"].replace("'", "&#39;") in (
            (out / "report.html").read_text("utf-8")
        )


def test_of_a_training_the_command_that_went_farthest(run_cli, tmp_path, model_file):
    given = ["train", f"{model_file}:classifier", "digits", *COMMON, "--watch", "0"]
    given += ["--limit", "50", "--attack-steps", "1", "--out", str(tmp_path / "out")]
    for epochs in ("1", "2"):
        code, _, said = run_cli(*given, "--epochs", epochs)
        assert code == 0, said
        noted = json.loads((tmp_path / "out" / "command.json").read_text())["command"]
        assert shlex.split(noted) == ["summiteer", *given, "--epochs", epochs]
        assert f"--epochs {epochs}</" in (tmp_path / "out" / "report.html").read_text(
            "utf-8"
        )


def test_it_is_shown_as_text_and_only_where_it_is_known(tmp_path):
    run = planted(tmp_path / "run", arrays_of(20))
    assert not command_blocks(run.directory)
    hostile = "summiteer attack '</script><img src=x onerror=alert(1)>{{ 7*7 }}'"
    place = run.directory / "command.json"
    place.write_text(json.dumps({"command": hostile}))
    (code,) = command_blocks(run.directory)
    assert isinstance(code, Code)
    assert code.text == hostile
    html = page(document_of(run))
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;{{ 7*7 }}" in html
    for damaged in ("", "[]", "{}", "\0"):
        place.write_text(damaged)
        assert not command_blocks(run.directory)

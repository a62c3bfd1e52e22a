"""What is printed: 80 columns, plain in a pipe, without colour where none is wanted."""

import re

import pytest

from small_runs import ARGUMENTS, small_run
from summiteer.optimality import Verdict
from summiteer.report.claims_text import GLOSSES, print_claims
from summiteer.report.terminal import output

WIDTH = 80
_CODES = re.compile(r"\x1b\[[\d;]*m")
_COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d)")


@pytest.fixture
def terminal(monkeypatch):
    """As if this were a terminal of 80 columns."""
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "80"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def commands(line):
    """Whether it is there to be copied, and so stays whole."""
    return line.lstrip().startswith(("summiteer ", "report: ", "next: "))


@pytest.mark.parametrize("command", ARGUMENTS)
def test_lines_fit_a_terminal(folder, terminal, command):
    printed = _CODES.sub("", small_run(command, folder, "--no-report"))
    wide = [line for line in printed.splitlines() if len(line) > WIDTH]
    assert [line for line in wide if not commands(line)] == []


@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_pipe_gets_plain_text(folder, monkeypatch, command):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    printed = small_run(command, folder, "--no-report")
    assert "\x1b" not in printed
    assert "\r" not in printed


def claims():
    """A claim with every verdict there is."""
    words = "a sentence of some length about what was seen on the networks of this run"
    judgements = [
        {"protocol": "PGA", "regime": "digits", "standing": each, "sentence": words}
        for each in GLOSSES
    ]
    claim = {"key": "C1", "title": "A title", "judgements": judgements}
    return {
        "claims": [claim],
        "cells": {"done": 3, "failed": 1},
        "errors": ["climb: RuntimeError: " + "no " * 40],
        "decided": 0.995,
    }


def test_colours_are_for_those_who_want_them(terminal, monkeypatch, capsys):
    print_claims(claims(), "out")
    assert _COLOURS.search(capsys.readouterr().out)
    monkeypatch.setenv("NO_COLOR", "1")
    print_claims(claims(), "out")
    printed = capsys.readouterr().out
    assert not _COLOURS.search(printed)
    assert max(map(len, _CODES.sub("", printed).splitlines())) <= WIDTH


def test_every_verdict_on_a_claim_has_its_gloss(capsys):
    print_claims(claims(), "out")
    printed = capsys.readouterr().out.splitlines()
    for standing, gloss in GLOSSES.items():
        assert f"{standing}: {gloss}" in printed
        assert len(f"{standing}: {gloss}") <= WIDTH


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_gloss_of_a_line(verdict):
    assert 10 < len(verdict.value) <= WIDTH
    assert "\n" not in verdict.value


def test_sentences_are_wrapped_between_words_under_what_they_are_about(
    terminal, capsys
):
    console = output()
    text = "     3 MAXIMUM (proved 3): " + "many words " * 12
    console.say(text)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines] == ["     3 ", *[" " * 7] * (len(lines) - 1)]
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    console.say("robust accuracy  43.1 %  at most: " + "found by attack " * 6)
    second = capsys.readouterr().out.splitlines()[1]
    assert second.startswith(" " * 25)
    console.say("summiteer attack " + "word " * 40, whole=True)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_pipe_gets_whole_sentences(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    output().say("word " * 40)
    assert len(capsys.readouterr().out.splitlines()) == 1

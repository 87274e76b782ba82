"""`slm train` refuses what it cannot do before it starts. Needs torch for what comes after the first check."""

from __future__ import annotations

import importlib.util

import pytest

from slmkit.cli import train
from slmkit.cli.parser import Parser
from slmkit.errors import MissingDependency, OptionError, RequestError


def _arguments(*words):
    parser = Parser(prog="slm train")
    train.add_arguments(parser)
    return parser.parse(["tiny", "--data", "DATA", "--out", "RUN", *words])


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_line_that_installs_it_is_given():
    with pytest.raises(MissingDependency, match=r"pip install '\.\[train\]'"):
        train.run(_arguments())


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--threads", "0"], "1 or more"),
        (["--resume", "--start", "FILE"], "one of them"),
        (["--stages", "x"], "no stage"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_sentence(words, says):
    with pytest.raises(RequestError, match=says) as caught:
        train.run(_arguments(*words))
    assert isinstance(caught.value, OptionError) or words[0] == "--stages"

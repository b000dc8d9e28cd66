"""What steers a terminal or turns the reading direction is never shown as it is."""

import pytest
from rich.console import Console

from mmrev.console import say
from mmrev.errors import UserError, one_line_errors
from mmrev.operating_points.costs import StitchCost, costs_table
from mmrev.operating_points.ratings import Ratings
from mmrev.text import printable, printable_lines

STEERING = ["\x1b[31m", "\a", "\b", "\r", "\x9b1m", "\x7f", "\u202e", "\u2028", "\0"]


@pytest.mark.parametrize("text", STEERING)
def test_printable(text):
    shown = printable(f"a{text}b\n")
    assert shown.isprintable()
    assert shown[0] == "a"
    assert shown[-1] == "\N{REPLACEMENT CHARACTER}"
    assert printable_lines(f"a{text}\nb") == f"{printable(f'a{text}')}\nb"


def test_ordinary_text_stays():
    assert printable("Grüße, 猫 é [red] é") == "Grüße, 猫 é [red] é"


@pytest.mark.parametrize("text", STEERING)
def test_what_is_said(text, capsys):
    @one_line_errors
    def main():
        say(f"file {text}.json")
        raise UserError(f"class {text}.")

    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr()
    assert shown.out.rstrip("\n").isprintable()
    assert shown.err.rstrip("\n").isprintable()
    assert shown.err.startswith("error: class ")


def test_a_table_takes_no_markup():
    """A closing tag that nothing opened would end in an error of rich."""
    cost = StitchCost(id=0, route="0", params=1, params_as_reference=1, flops=1)
    ratings = Ratings("coco/[/red]", {0: 0.5}, ["from [/red] [link=x]here"])
    console = Console(width=200, force_terminal=True)
    with console.capture() as captured:
        console.print(costs_table([cost], ratings))
    assert "[/red] [link=x]here" in captured.get()

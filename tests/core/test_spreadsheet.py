"""Tables run nothing in a spreadsheet, and read back exactly."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.core.spreadsheet import csv_rows, csv_text

NAMES = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''=1",
    "'",
    "plain",
    "a,b",
    'a"b',
    "a\nb",
    "-",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_never_begins_as_a_formula_and_comes_back(name):
    text = csv_text(["what", "n"], [[name, 1]])
    stored = list(csv.reader(io.StringIO(text, newline="")))[1][0]
    assert stored[:1] not in set("=+-@\t\r") or stored == ""
    assert csv_rows(text) == [{"what": name, "n": "1"}]


def test_numbers_stay_numbers():
    assert csv_text(None, [[-1, -0.5, "-0.5", "+3", "-inf", None]]) == "-1,-0.5,-0.5,+3,-inf,\n"


@given(st.lists(st.tuples(st.text(), st.integers(), st.floats(allow_nan=False)), max_size=5))
def test_any_row_comes_back(rows):
    found = csv_rows(csv_text(["=a", "b", "c"], rows))
    assert [(row["=a"], int(row["b"]), float(row["c"])) for row in found] == rows


def test_a_line_that_is_cut_is_no_table():
    with pytest.raises(csv.Error, match="lines have other than 2 values"):
        csv_rows("a,b\n1,2\n3\n")

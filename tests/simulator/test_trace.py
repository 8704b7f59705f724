from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket.simulator.run_settings import NS
from crdtbucket.simulator.simulation_errors import TraceError
from crdtbucket.simulator.trace import parse_time, parse_trace, read_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def _lines(*rows: str) -> list[str]:
    return [HEADER, *(row + "\n" for row in rows)]


def test_times_from_the_first_call_and_costs_as_sums() -> None:
    trace = parse_trace(
        _lines("2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109")
    )
    assert list(trace.times_ns) == [0, 4_314_579_000]
    assert list(trace.costs) == [418, 505]
    assert len(trace) == 2
    assert trace.duration_ns == 4_314_579_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-16 18:15:46", 0.0),
        ("2023-11-16T18:15:46", 0.0),
        ("2023-11-16 18:15:46.5", 0.5),
        ("2023-11-16 18:15:46,25", 0.25),
        ("2023-11-16 18:15:46.000000001999", 1e-9),
        ("2023-11-16T18:15:46Z", 0.0),
        ("2023-11-16t18:15:46.5z", 0.5),
        ("2023-11-16 20:15:46.5+02:00", 0.5),
        ("2023-11-16 20:15:46+0200", 0.0),
        ("2023-11-16 20:15:46 +02", 0.0),
        ("2023-11-16 12:45:46-05:30", 0.0),
        ("2023-11-17 18:15:46", 86_400.0),
        ("2024-11-16 18:15:46", 366 * 86_400.0),
        ("2023-11-16 18:15:60", 14.0),
    ],
)
def test_forms_of_timestamps(text: str, seconds: float) -> None:
    origin = parse_time("2023-11-16 18:15:46")
    assert parse_time(text) - origin == round(seconds * NS)


def test_byte_order_mark_carriage_returns_blank_lines_and_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(
        b"\xef\xbb\xbfuser, GeneratedTokens ,TIMESTAMP,contexttokens\r\n"
        b'"a, b",2,2023-11-16 00:00:00,3\r\n'
        b"\r\n"
        b"c,20,2023-11-16 00:00:01,30"
    )
    trace = read_trace(path)
    assert list(trace.times_ns) == [0, NS]
    assert list(trace.costs) == [5, 50]


def test_order_of_time_and_of_the_file_at_the_same_time() -> None:
    rows = [f"2023-11-16 00:00:0{second},{cost},0" for second, cost in ((5, 1), (2, 2), (5, 3))]
    trace = parse_trace(_lines(*rows))
    assert list(trace.times_ns) == [0, 3 * NS, 3 * NS]
    assert list(trace.costs) == [2, 1, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 00:00:00,1", "2 columns"),
        ("yesterday,1,2", "'yesterday' is not a timestamp"),
        ("2023-02-30 00:00:00,1,2", "no such day"),
        ("2023-02-20 24:00:00,1,2", "no such time of day"),
        ("2023-02-20 23:00:00+99:00,1,2", "no such time zone"),
        ("2146-11-16 00:00:00,1,2", "not within 146 years of 2000"),
        ("1753-11-16 00:00:00,1,2", "not within 146 years of 2000"),
        ("2023-11-16 00:00:00,-1,2", "'-1' is not a whole number of tokens"),
        ("2023-11-16 00:00:00,1,2.5", "'2.5' is not a whole number"),
        ("2023-11-16 00:00:00,,2", "'' is not a whole number"),
        ("2023-11-16 00:00:00,1,9007199254740993", "not a whole number"),
        ("2023-11-16 00:00:00,\u0663,1", "not a whole number"),
        ('2023-11-16 00:00:00,"1"x,2', "not a row of a CSV file"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line(row: str, message: str) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        parse_trace(_lines("2023-11-16 00:00:00,1,2", "", row, "2023-11-16 00:00:00,1,2"), "t.csv")
    assert caught.value.line == 4
    assert str(caught.value).startswith("t.csv:4: ")


SECRET = "password=1234 " + 9_000 * "x"


@pytest.mark.parametrize("text", [SECRET, f"a,{SECRET},TIMESTAMP", f'"{SECRET}"'])
def test_the_first_line_of_another_file_is_not_shown(text: str) -> None:
    with pytest.raises(TraceError) as caught:
        parse_trace([text], "notes.txt")
    assert "1234" not in str(caught.value)
    assert " and there is no " in str(caught.value)


@pytest.mark.parametrize("at", range(3))
def test_what_is_no_value_is_shown_in_a_few_characters(at: int) -> None:
    row = ["2023-11-16 00:00:00", "1", "2"]
    row[at] = 9_000 * "1"
    with pytest.raises(TraceError) as caught:
        parse_trace(_lines(",".join(row)), "t.csv")
    assert len(str(caught.value)) < 200


def test_errors_of_whole_files(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no call"):
        parse_trace([HEADER])
    with pytest.raises(TraceError, match="no call"):
        parse_trace([])
    with pytest.raises(TraceError, match="the header must be TIMESTAMP"):
        parse_trace(["2023-11-16 00:00:00,1,2\n"])
    twice = HEADER.replace("\n", ",timestamp\n")
    with pytest.raises(TraceError, match=r"GeneratedTokens, and there is TIMESTAMP 2 times$"):
        parse_trace([twice])
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(tmp_path / "binary.csv")

"""Class tables as people and spreadsheets write them: read as meant, or refused with file, line and value."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.class_tables import ClassRow, normal_name, read_rows, same_names
from pspnet.errors import ConfigError, LabelError
from pspnet.labels import IGNORE, LabelSpace, distinct_colours, read_classes

HEAD = "code,name,red,green,blue,ignore\n"


def table(folder: Path, text: str, encoding: str = "utf-8", name: str = "classes.csv") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize("word", ["1", "true", "TRUE", "True", "Yes", "y", "1.0", "1,0", "x", "X", "WAHR", " VRAI "])
def test_words_for_ignore(word: str, tmp_path: Path) -> None:
    space = read_classes(table(tmp_path, HEAD + f'0,road,1,2,3,0\n7,void,0,0,0,"{word}"\n'))
    assert (space.names, space.ignored_codes) == (("road",), (7,))


@pytest.mark.parametrize("word", ["", "0", "FALSE", "no", "0.0", "Falsch", "n"])
def test_words_for_a_class(word: str, tmp_path: Path) -> None:
    assert read_classes(table(tmp_path, HEAD + f"0,road,1,2,3,{word}\n")).names == ("road",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_a_spreadsheet_saves(encoding: str, separator: str, end: str, tmp_path: Path) -> None:
    rows = ["Code,Name,Red,Green,Blue", "1,Gewässer,0,0,255", "2.0,Wald,0,99,0", ",,,,"]
    path = table(tmp_path, end.join(rows).replace(",", separator), encoding)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        space = read_classes(path)
    assert (space.names, space.codes, space.colours) == (("Gewässer", "Wald"), (1, 2), ((0, 0, 255), (0, 99, 0)))
    assert ["Windows-1252" in str(one.message) for one in heard] == ([True] if encoding == "cp1252" else [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "0,a,1,2,3,\n0,b,4,5,6,\n", r"line 3: code 0 is 'a' already"),
        (HEAD + "0,a,1,2,3,\n0,b,4,5,6,1\n", r"line 3: code 0 is 'a' already"),
        (HEAD + "-1,a,1,2,3,\n", r"line 2: code -1 of 'a': no pixel holds it"),
        (HEAD + "0,a,1,2,500,\n", r"line 2: the colour \(1, 2, 500\) has a part outside of 0..255"),
        (HEAD + "0,a,1,2,3,\n1,A ,4,5,6,\n", r"line 3: 'A' is named more than once \(as 'a'\)"),
        (HEAD + "0,a,1,2,3,perhaps\n", r"line 2: ignore = 'perhaps'"),
        (HEAD + "zero,a,1,2,3,\n", r"line 2: code = 'zero' is no whole number"),
        (HEAD + "0.5,a,1,2,3,\n", r"line 2: code = '0.5' is no whole number"),
        (HEAD + "0,,1,2,3,\n", r"line 2: code 0 has no name"),
        (HEAD + "0,sea, lake,1,2,3,0,9\n", r"line 2: 8 values for the 6 columns"),
        (HEAD, "has no class"),
        ("", "is empty"),
        ("0,road,1,2,3\n", "has the columns 0, road, 1, 2, 3; a class table has the columns code,name"),
        ("name,r,g,b\nroad,1,2,3\n", "the codes may be any different numbers"),
        ("code,name,red\n0,a,1\n", "the column red without the others"),
        ("code,name,red,green,blue\n0,a,1,2,3\n1,b,,,\n", "colour = '' is no whole number"),
        ("code,name\n99999999999,a\n", "hold at most 4294967295"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_classes(table(tmp_path, text))
    assert "classes.csv'" in str(caught.value)


def test_columns_by_other_names_and_without_colours(tmp_path: Path) -> None:
    space = read_classes(table(tmp_path, "Pixel Value, Class\n0, background\n1, plant\n"))
    assert (space.names, space.codes, space.colours) == (("background", "plant"), (0, 1), distinct_colours(2))


def test_255_is_ignored_unless_the_table_says_what_is(tmp_path: Path) -> None:
    assert read_classes(table(tmp_path, HEAD + "0,a,1,2,3,\n")).ignored_codes == (IGNORE,)
    said = read_classes(table(tmp_path, HEAD + "0,a,1,2,3,\n9,void,0,0,0,1\n"))
    with pytest.raises(LabelError, match=r"has code 255; .*training ids"):
        said.decode(np.array([[255]]), "a.png")
    assert read_classes(table(tmp_path, HEAD + "0,a,1,2,3,\n255,b,9,9,9,\n")).decode(np.array([[255]]), "x") == [[1]]
    with pytest.raises(LabelError, match="has code 255"):
        LabelSpace.named("cityscapes").decode(np.array([[255]]), "aachen_gtFine_labelTrainIds.png")


def test_codes_of_ten_digits_need_no_table_of_their_size() -> None:
    space = LabelSpace(("a", "b"), codes=(3, 4_000_000_000), ignored_codes=(0,))
    assert space.decode(np.array([[4_000_000_000, 3, 0]]), "x").tolist() == [[1, 0, IGNORE]]
    with pytest.raises(LabelError, match="has code 4000000001"):
        space.decode(np.array([[4_000_000_001]]), "x")


NAMES = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "Nd", "Zs", "Pd")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(normal_name),
    min_size=1,
    max_size=6,
    unique_by=normal_name,
)


@given(NAMES, st.sampled_from(",;\t"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.randoms())
@settings(deadline=None)
def test_a_random_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], separator: str, encoding: str, random: object
) -> None:
    codes = np.random.default_rng(random.getrandbits(32)).permutation(len(names) + 9)[: len(names)].tolist()  # type: ignore[attr-defined]
    colours = distinct_colours(len(names))
    folder = tmp_path_factory.getbasetemp()
    lines = [["code", "name", "red", "green", "blue"]]
    lines += [[str(k), f'"{n}"', *map(str, c)] for k, n, c in zip(codes, names, colours, strict=True)]
    space = read_classes(table(folder, "\r\n".join(separator.join(line) for line in lines), encoding))
    assert (space.names, space.codes, space.colours) == (tuple(names), tuple(codes), colours)
    rows = [{"value": k, "name": n, "color": list(c)} for k, n, c in zip(codes, names, colours, strict=True)]
    assert read_classes(table(folder, json.dumps({"classes": rows}), name="classes.json")) == space


def test_published_spellings_are_the_same_names() -> None:
    for ours, theirs in (
        ("bed", "bed "),
        ("television", "television receiver"),
        ("agriculture", "agricultural"),
        ("impervious surface", "impervious_surfaces"),
        ("clutter", "Clutter/Background"),
        ("diningtable", "dining table"),
        ("aeroplane", "airplane"),
        ("building", "building;edifice"),
        ("floor", "floor, flooring"),
        ("Water", "water"),
    ):
        assert same_names([ours]) == same_names([theirs]), (ours, theirs)
    assert same_names(["screen, silver screen", "screen;door"]) != [normal_name("screen")] * 2  # both stay apart
    assert len(set(same_names(LabelSpace.named("ade20k").names))) == 150


def test_classes_in_the_order_of_their_codes() -> None:
    space = LabelSpace(("b", "a"), ((1, 1, 1), (2, 2, 2)), (5, 3), aliases={9: 0})
    ordered = space.by_code()
    assert (ordered.names, ordered.codes, ordered.colours) == (("a", "b"), (3, 5), ((2, 2, 2), (1, 1, 1)))
    assert ordered.decode(np.array([[3, 5, 9]]), "x").tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\ncode;name;red;green;blue\n3;a;255;128;0\n",  # Excel's own first line
        "code,name,color\n3,a,#ff8000\n",
        'code,name,rgb\n3,a,"255, 128, 0"\n',
        "Wert;Klasse;Rot;Grün;Blau\n3;a;255;128;0\n",
        "valeur;nom;rouge;vert;bleu\n3;a;255;128;0\n",
    ],
)
def test_headers_and_colours_of_other_programs(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_rows(tmp_path / "t.csv") == [ClassRow(3, "a", (255, 128, 0))]


def test_a_thousand_or_a_fraction_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('code,name\n"1,000",a\n2,b\n')
    with pytest.raises(ConfigError, match="line 2: code = '1,000': is it a thousand or a fraction"):
        read_rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("code,name,ignore_index\n0,a,0\n1,b,1\n")
    assert [row.ignored for row in read_rows(tmp_path / "t.csv")] == [False, True]
    (tmp_path / "t.json").write_text('{"classes": [{"value": 3, "name": "a", "color": "#ff8000"}]}')
    assert read_rows(tmp_path / "t.json")[0].colour == (255, 128, 0)

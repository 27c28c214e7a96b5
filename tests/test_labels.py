"""Classes and the tables from a source's codes and colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspnet.errors import ConfigError, LabelError
from pspnet.labels import IGNORE, LabelSpace, distinct_colours

SPACE = LabelSpace(
    ("sea", "land", "sky"),
    ((0, 0, 255), (0, 160, 0), (200, 220, 255)),
    codes=(1, 5, 300),
    ignored_codes=(0, 255),
    ignored_colours=((0, 0, 0),),
    aliases={6: 1},
)


def test_codes_become_indices() -> None:
    codes = np.array([[1, 5, 300], [0, 6, 255]])
    assert SPACE.decode(codes, "a.png").tolist() == [[0, 1, 2], [IGNORE, 1, IGNORE]]
    with pytest.raises(LabelError, match=r"a\.png' has code 34.*1, 5, 300.*colours"):
        SPACE.decode(np.array([[34]]), "a.png")
    with pytest.raises(LabelError, match="-1"):
        SPACE.decode(np.array([[-1]]), "a.png")
    with pytest.raises(LabelError, match="colour image"):
        SPACE.decode(np.zeros((2, 2, 3), np.uint8), "a.png")


def test_colours_become_indices() -> None:
    image = np.array([[(0, 0, 255), (0, 0, 0)]], np.uint8)
    assert SPACE.decode_colours(image, "a.png").tolist() == [[0, IGNORE]]
    with pytest.raises(LabelError, match=r"\(1, 2, 3\)"):
        SPACE.decode_colours(np.array([[(1, 2, 3)]], np.uint8), "a.png")


def test_encode_is_the_way_back() -> None:
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert SPACE.encode(labels).tolist() == [[1, 5, 300, 0]]
    assert np.array_equal(SPACE.decode(SPACE.encode(labels), "x"), labels)


def test_everything_survives_json() -> None:
    assert LabelSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE


@given(st.integers(1, 255))
def test_chosen_colours_differ(count: int) -> None:
    assert len(set(distinct_colours(count))) == count


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"names": ()}, "0 given"),
        ({"names": tuple(map(str, range(256)))}, "256 given"),
        ({"names": ("a", "a")}, "a named more than once"),
        ({"names": ("a", "b"), "colours": ((1, 2, 3),)}, "1 given for 2"),
    ],
)
def test_contradictions(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LabelSpace(**fields)


def test_tables_are_files(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(
        "# where it is from\ncode,name,red,green,blue,ignore\n1,sea,0,0,255,0\n2,land,0,160,0,\n0,none,0,0,0,1\n"
    )
    space = LabelSpace.from_csv(file)
    assert space.names == ("sea", "land")
    assert space.codes == (1, 2)
    assert 0 in space.ignored_codes
    file.write_text("code,name\n1,sea,0\n")
    with pytest.raises(ConfigError, match="line 2"):
        LabelSpace.from_csv(file)
    with pytest.raises(ConfigError, match=r"there are: .*ade20k"):
        LabelSpace.named("nothing")

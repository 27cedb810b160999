"""What takes long is done once."""

import json

import pytest

from experiments.once import once


def test_it_is_done_once_for_the_same_settings(tmp_path):
    """A record of other settings is replaced, and one with more in it is enough."""
    calls, record = [], tmp_path / "record.json"

    def do():
        calls.append(len(calls))
        return {"found": len(calls)}

    assert once(record, {"seed": 0}, do) == {"seed": 0, "found": 1}
    assert once(record, {"seed": 0}, do)["found"] == 1
    assert once(record, {"seed": 1}, do)["found"] == 2
    assert once(record, {"seed": 1, "prompt": "Once"}, do)["found"] == 3
    assert once(record, {"seed": 1}, do)["found"] == 3
    assert json.loads(record.read_text()) == {"seed": 1, "prompt": "Once", "found": 3}


def test_what_was_interrupted_is_done_again(tmp_path):
    def fail():
        raise KeyboardInterrupt

    record = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        once(record, {"seed": 0}, fail)
    assert once(record, {"seed": 0}, lambda: {"found": 1})["found"] == 1

"""What takes long is done once."""

import json

import pytest

from experiments.cached_json import cached_json


def test_it_is_done_once_for_the_same_settings(tmp_path):
    """A record of other settings is replaced, even of more or fewer ones."""
    calls, record = [], tmp_path / "record.json"

    def do():
        calls.append(len(calls))
        return {"found": len(calls)}

    assert cached_json(record, {"seed": 0}, do) == {"seed": 0, "found": 1}
    assert cached_json(record, {"seed": 0}, do)["found"] == 1
    assert cached_json(record, {"seed": 1}, do)["found"] == 2
    assert cached_json(record, {"seed": 1, "prompt": "Once"}, do)["found"] == 3
    assert cached_json(record, {"seed": 1}, do)["found"] == 4
    assert json.loads(record.read_text())["wanted"] == {"seed": 1}
    for _ in range(2):  # a tuple is read again as a list
        assert cached_json(record, {"values": (1, 2)}, do)["found"] == 5


def test_what_somebody_has_changed_is_made_again(tmp_path):
    """The record, or a file beside it; and an older record, which says less."""
    record, made = tmp_path / "record.json", tmp_path / "made" / "samples.jsonl"

    def do():
        made.parent.mkdir(exist_ok=True)
        made.write_text("ours")
        return {"found": 1}

    def change_record():
        record.write_text(record.read_text().replace('"found": 1', '"found": 9'))

    changes = [
        lambda: made.write_text("theirs"),
        made.unlink,
        change_record,
        lambda: record.write_text('{"seed": 0, "found": 9}'),
        lambda: record.write_text("[9]"),
        lambda: record.write_text("{"),
    ]
    for change in changes:
        assert cached_json(record, {"seed": 0}, do, [made]) == {"seed": 0, "found": 1}
        change()
        assert cached_json(record, {"seed": 0}, do, [made]) == {"seed": 0, "found": 1}
        assert made.read_text() == "ours"


def test_what_was_interrupted_is_done_again(tmp_path):
    def fail():
        raise KeyboardInterrupt

    record = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        cached_json(record, {"seed": 0}, fail)
    assert cached_json(record, {"seed": 0}, lambda: {"found": 1})["found"] == 1

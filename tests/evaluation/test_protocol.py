"""Records: which are put side by side, what their files are called, and what is never written."""

import json

import pytest

from tcja_gen.evaluation import compare, file_name, read_record, write_record

VERSIONS = {"torch": "2.14.1", "torchvision": "0.29.1", "tcja_gen": "0.1.0"}
MADE = {"quantised": "rounded to uint8", "weights": "EMA", "classes": None, "step": 5, "seeds": [0, 63], "repeats": 1}
MADE |= {"time_steps": 4, "rounds": 8, "temperature": 1.0, "command": "tcja-gen evaluate a", "versions": VERSIONS}
SET = {"n": 64, "reference": "f0", "data": "digits", "split": "test", "size": 8, "channels": 1}
NETWORK = {"extractor": "classifier", "extractor_hash": "c0", "mode": "eval", "resize": "to 32x32", "n_reference": 299}
FACTS = {
    "fad": MADE | SET | NETWORK,
    "kid-classifier": MADE | SET | NETWORK | {"kid_subsets": 100, "kid_subset_size": 64, "kid_seed": 0},
    "is": MADE | SET | NETWORK | {"is_splits": 10, "reference": None, "n_reference": None},
    "is-fsvae": MADE | SET | NETWORK | {"is_splits": 1, "standard": "no", "reference": None, "n_reference": None},
    "recall": MADE | SET | NETWORK | {"neighbours": 3},
    "memorisation-classifier": MADE | SET | NETWORK | {"n_training": 1198, "training": "f1"},
    "psnr": MADE | SET | {"quantised": "no", "range": "pixels in [0, 1]"},
    "accuracy": MADE | SET | {"classes": 10, "drawn": None, "readout": "largest mean", "size": [8, 8]},
}
HOW = {"quantised", "weights", "classes", "versions", *SET, *NETWORK}
HOW |= {"kid_subsets", "kid_subset_size", "kid_seed", "is_splits", "standard", "neighbours", "n_training", "training"}
HOW |= {"range", "drawn", "readout"}
WHAT = {"step", "seeds", "repeats", "time_steps", "rounds", "temperature", "command"}
FIELDS = [(metric, field) for metric, facts in FACTS.items() for field in facts]


def record(metric: str, **changes) -> dict:
    return {"scores": {metric: 1.0}, "protocol": {metric: FACTS[metric] | changes}, "source": {}, "notes": []}


def without(metric: str, field: str) -> dict:
    found = record(metric)
    del found["protocol"][metric][field]
    return found


@pytest.mark.parametrize(("metric", "field"), FIELDS)
def test_what_is_measured_may_differ_and_how_it_is_measured_may_not(metric, field):
    changed = record(metric, **{field: {"torch": "2.11.0"} if field == "versions" else "another"})
    if metric != "accuracy" and field in ("classes", "drawn"):
        changed["protocol"][metric]["classes"] = "another"
        two = {"a": record(metric, classes="seed mod classes"), "b": changed}
    else:
        two = {"a": record(metric), "b": changed}
    if field in WHAT or metric == "accuracy" and field == "quantised":
        assert compare(two) == [{"metric": metric, "a": 1.0, "b": 1.0}]
        return
    assert field in HOW
    with pytest.raises(ValueError, match=f"^{metric} of a and of b are not comparable: {field} "):
        compare(two)


@pytest.mark.parametrize(("metric", "field"), [x for x in FIELDS if x[1] in HOW - {"classes"}])
def test_a_field_that_is_missing_is_no_wild_card(metric, field):
    if metric == "accuracy" and field == "quantised":
        return
    bare = without(metric, field)
    for two in ({"a": record(metric), "b": bare}, {"a": bare, "b": bare}):
        with pytest.raises(ValueError, match=rf"not comparable: {field} .*\(missing\)"):
            compare(two)


@pytest.mark.parametrize("score", ["x", [1.0, None], {}])
def test_a_file_whose_score_is_no_number_is_no_record(tmp_path, score):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"scores": {"fad": score}, "protocol": {}}), "utf-8")
    with pytest.raises(ValueError, match="a.json: not a record of scores; fad is"):
        read_record(file)
    file.write_text('{"scores": {"fad": null, "psnr": 2}, "protocol": {}}', "utf-8")
    assert read_record(file)["scores"] == {"psnr": 2}


def test_a_file_whose_protocol_is_no_table_is_no_record(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"scores": {"fad": 1}, "protocol": {"fad": [1]}}), "utf-8")
    with pytest.raises(ValueError, match="a.json: not a record of scores; wanted the keys"):
        read_record(file)


def test_a_score_without_any_protocol_is_not_compared():
    with pytest.raises(ValueError, match="fad of a and of b are not comparable: quantised"):
        compare({"a": record("fad"), "b": record("fad") | {"protocol": {}}})


def test_records_are_compared_with_each_other_and_not_with_the_first_alone():
    """Images were there, so the first has no weights and goes with both of the others, which do not go together."""
    images = record("fad", weights=None, quantised=None)
    ema, raw = record("fad", weights="EMA"), record("fad", weights="raw")
    assert compare({"images": images, "ema": ema}) and compare({"images": images, "raw": raw})
    with pytest.raises(ValueError, match="fad of ema and of raw are not comparable: weights EMA and raw"):
        compare({"images": images, "ema": ema, "raw": raw})


def test_a_patch_of_a_package_refuses_nothing_and_another_release_does():
    patched = record("fad", versions=VERSIONS | {"torch": "2.14.2+cu128", "tcja_gen": "0.1.7"})
    assert compare({"a": record("fad"), "b": patched})
    with pytest.raises(ValueError, match="versions .*'torch': '2.14'.* and .*'torch': '2.15'"):
        compare({"a": record("fad"), "b": record("fad", versions=VERSIONS | {"torch": "2.15.0"})})


def test_records_from_before_generators_had_classes_go_with_those_of_today():
    assert compare({"old": without("fad", "classes"), "new": record("fad")})


def test_another_question_has_another_file_and_the_same_one_the_same():
    asked = ["fad"]
    same = file_name(record("fad", command="other words", versions={}), asked)
    assert file_name(record("fad"), asked) == same and same.startswith("fad-test-64-") and same.endswith(".json")
    others = [
        dict(seeds=[64, 127]),
        dict(rounds=4),
        dict(temperature=1.1),
        dict(split="train"),
        dict(extractor_hash="d"),
    ]
    names = {file_name(record("fad", **change), asked) for change in others} | {same, file_name(record("fad"), ["all"])}
    assert len(names) == 2 + len(others)
    every = [f"metric-{i}" for i in range(60)]
    many = {"scores": dict.fromkeys(every, 1.0), "protocol": dict.fromkeys(every, FACTS["fad"] | {"repeats": 3})}
    assert len(file_name(many, every)) < 40 and file_name(many, every).startswith("metric-0+59-test-64x3-")
    assert file_name({"scores": {}, "protocol": {}}, ["memorisation"])


def test_a_record_never_has_a_number_that_json_has_not(tmp_path):
    bad = record("fad") | {"source": {"validation": {"loss": float("nan"), "of": [1.0, float("-inf")]}}}
    write_record(tmp_path / "a.json", bad)
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["source"]["validation"] == {"loss": None, "of": [1.0, None]}
    for content in ('{"scores": [], "protocol": {}}', '{"scores": {"fad": 1}}', "[]", "{"):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(ValueError, match="b.json: not a"):
            read_record(tmp_path / "b.json")

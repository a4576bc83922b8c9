from pathlib import Path

import pytest
import yaml
from conftest import tiny_tree

from hmrb.check import name_problems
from hmrb.spec import Experiment, SpecError, SpeedSpec, dump_experiment, load_experiment, parse_experiment

SPECS = sorted((Path(__file__).parent.parent / "specs").rglob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("device_batch", "processes", "parts"), [(None, 1, 1), (64, 1, 1), (32, 1, 2), (30, 2, 2), (16, 2, 2), (1, 4, 16)]
)
def test_parts_of_a_batch_follow_from_what_a_device_can_take(
    device_batch: int | None, processes: int, parts: int
) -> None:
    assert SpeedSpec(device_batch=device_batch).micro_batches(64, processes) == parts


def test_a_batch_that_can_t_be_shared_out_is_refused() -> None:
    experiment = parse_experiment(tiny_tree() | {"speed": {"device_batch": 24}}, "tiny")
    experiment = experiment.model_copy(update={"optim": experiment.optim.model_copy(update={"batch": 64})})
    assert name_problems(experiment, 3) == ["optim.batch: 64 can't be split evenly over 3 processes"]
    assert name_problems(experiment, 1) == [
        "speed.device_batch: the 64 pictures of a process can't be split into 3 equal micro-batches of at most 24;"
        " use one of 1, 2, 4, 8, 16, 32, 64"
    ]


def test_the_recipe_knows_neither_speed_nor_workers() -> None:
    tree = tiny_tree()
    fast = tree | {"speed": {"device_batch": 2}, "data": tree["data"] | {"workers": 3}}
    assert parse_experiment(fast, "fast").sha() == parse_experiment(tree, "tiny").sha()


@pytest.mark.parametrize("field", ["decode: seen", "antialias: area"])
def test_the_recipe_says_which_pixels_are_seen_if_not_all(field: str) -> None:
    tree, (key, value) = tiny_tree(), field.split(": ")
    plain = parse_experiment(tree, "tiny")
    assert not {"decode", "antialias"} & plain.recipe()["data"].keys()
    other = parse_experiment(tree | {"data": tree["data"] | {key: value}}, "tiny")
    assert other.recipe()["data"][key] == value
    assert other.sha() != plain.sha()


def test_all_problems_come_in_one_list(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        name: a
        modl: {}
        data: {mix: {h36m: 0.6, 3dpw: 0.5}, augment: [{name: flip, arg: 1}]}
        losses: {keypoints3d: {distance: l1, weight: 1, weigth: 2}}
        optim: {epochs: -2, lr: fast}
        """,
    )
    with pytest.raises(SpecError) as error:
        load_experiment(path)
    assert str(error.value).splitlines() == [
        f"{path}: data.mix: shares sum to 1.1, but must sum to 1",
        f"{path}: data.augment.0.arg: no such field; did you mean 'args'?",
        f"{path}: losses.keypoints3d.weigth: no such field; did you mean 'weight'?",
        f"{path}: optim.epochs: should be greater than 0, got -2",
        f"{path}: optim.lr: should be a valid number, unable to parse string as a number, got 'fast'",
        f"{path}: modl: no such field; did you mean 'model'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", "invalid YAML: while parsing a flow sequence"),
        ("- a", "a spec must be a table of fields, got a list"),
        ("", "a spec must be a table of fields, got an empty file"),
        ("name: a\nname: b", "duplicate key 'name'"),
        ("name: a", "data: required"),
        ("!!python/object/apply:os.system ['true']", "invalid YAML: could not determine a constructor"),
    ],
)
def test_what_is_no_spec_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_experiment(written(tmp_path, text))


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no\.yaml: not a readable spec: no such file"):
        load_experiment(tmp_path / "no.yaml")


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(tiny_tree()))
    experiment = load_experiment(path, ("optim.lr=1e-4", "data.augment=[flip]", "seed=7"))
    assert (experiment.optim.lr, experiment.data.augment[0].name, experiment.seed) == (1e-4, "flip", 7)
    with pytest.raises(SpecError, match="no such field"):
        load_experiment(path, ("optim.rate=1",))
    with pytest.raises(SpecError, match=r"write it as field\.field=value"):
        load_experiment(path, ("optim.lr",))


def test_names_are_spelt_one_way_inside(tmp_path: Path) -> None:
    tree = tiny_tree()
    tree["data"]["mix"] = {"synthetic-full": 1.0}
    tree["evals"] = {"benches": ["synthetic-full"], "select_on": "synthetic-full-val"}
    experiment = parse_experiment(tree, "here")
    assert list(experiment.data.mix) == ["synthetic_full"]
    assert (experiment.evals.benches, experiment.evals.select_on) == (("synthetic_full",), "synthetic_full_val")


def test_the_resolved_spec_reads_back(tiny_experiment: Experiment) -> None:
    assert parse_experiment(yaml.safe_load(dump_experiment(tiny_experiment)), "again") == tiny_experiment


def test_an_experiment_is_frozen(tiny_experiment: Experiment) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny_experiment.seed = 1


def test_unknown_names_come_in_one_list() -> None:
    tree = tiny_tree()
    tree["data"] = {"mix": {"synthetik": 1.0}, "augment": ["flop", {"flip": {"prob": 1}}]}
    tree["model"]["backbone"] = "resnet5"
    tree["losses"]["verts"] = {"distance": "l1", "weight": 1}
    tree["evals"] = {"benches": ["sinthetic"], "select_on": "synthetic"}
    problems = name_problems(parse_experiment(tree, "here"), processes=3)
    said = "\n".join(problems)
    assert len(problems) == 8
    for line in (
        "no backbone named 'resnet5'. Did you mean 'resnet50' or 'resnet152'?",
        "no dataset named 'synthetik'. Did you mean 'synthetic'",
        "no augmentation named 'flop'. Did you mean 'flip'?",
        "augmentation 'flip' has no argument 'prob'; it takes p=0.5",
        "no loss named 'verts'",
        "no benchmark named 'sinthetic'. Did you mean 'synthetic'",
        "'synthetic' is a test split; selecting a checkpoint on it leaks the test set",
        "4 can't be split evenly over 3 processes",
    ):
        assert line in said


def test_datasets_outside_the_mix_are_reported() -> None:
    tree = tiny_tree()
    tree["data"] |= {"augment": ["flip", {"self_mix": {"only": ["synthetc"]}}], "without": {"h36m": ["body"]}}
    assert name_problems(parse_experiment(tree, "tiny")) == [
        "data.augment: self_mix: only: 'synthetc' is not in the mix. Did you mean 'synthetic'? The mix: synthetic.",
        "data.without: 'h36m' is not in the mix. The mix: synthetic.",
    ]


def test_an_argument_that_no_augmentation_takes_is_one_message() -> None:
    tree = tiny_tree()
    tree["data"]["augment"] = [{"soft_erase": {"shape": 2}}]
    assert name_problems(parse_experiment(tree, "tiny")) == [
        "augmentation 'soft_erase' has no argument 'shape'; it takes p=0.5, area=(0.02, 0.4), aspect=0.3"
    ]


def test_a_benchmark_without_pa_mpjpe_does_not_select() -> None:
    """It passed all checks and failed after the first epoch."""
    tree = tiny_tree()
    tree["evals"] = {"benches": ["synthetic"], "select_on": "coco_val"}
    problems = name_problems(parse_experiment(tree, "tiny"))
    problem = next(one for one in problems if "PA-MPJPE" in one)
    assert problem.startswith(
        "evals.select_on: 'coco_val' has no PA-MPJPE, which selects the checkpoint; choose one of "
    )
    assert "synthetic_val" in problem


def test_a_field_added_later_moves_no_hash_while_it_has_its_default() -> None:
    tree = tiny_tree() | {"optim": tiny_tree()["optim"] | {"weight_decay": 0.05}}
    plain, spelt, moved = (
        parse_experiment(tree | {"optim": tree["optim"] | more}, "tiny")
        for more in ({}, {"decay": "all"}, {"decay": "matrices"})
    )
    assert "decay" not in plain.recipe()["optim"]
    assert plain.sha() == spelt.sha() != moved.sha()
    assert moved.recipe()["optim"]["decay"] == "matrices"


def test_decay_of_nothing_is_refused() -> None:
    tree = tiny_tree() | {"optim": {"decay": "matrices"}}
    with pytest.raises(SpecError, match="decay: matrices would have no effect: weight_decay is 0"):
        parse_experiment(tree, "tiny")


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", True), ("off", False), ("true", True), ("'on'", True), ("'off'", False), ("auto", "auto")],
)
def test_sync_bn_is_on_off_or_auto(tmp_path: Path, text: str, value: object) -> None:
    path = written(tmp_path, yaml.safe_dump(tiny_tree()))
    assert load_experiment(path, (f"model.sync_bn={text}",)).model.sync_bn is value


def test_sync_bn_of_another_word_is_one_message(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(tiny_tree()))
    with pytest.raises(SpecError) as error:
        load_experiment(path, ("model.sync_bn=maybe",))
    assert str(error.value) == f"{path}: model.sync_bn: must be auto, on or off, got 'maybe'"


@pytest.mark.parametrize(
    ("asked", "cores", "on_gpu", "workers"),
    [
        (None, 14, True, 6),
        (None, 4.5, True, 4),
        (None, 14, False, 4),
        (None, 2, False, 2),
        (None, 0.5, False, 1),
        (9, 1, True, 9),
        (0, 8, True, 0),
    ],
)
def test_loading_processes_follow_the_cores(asked: int | None, cores: float, on_gpu: bool, workers: int) -> None:
    tree = tiny_tree()
    data = parse_experiment(tree | {"data": tree["data"] | {"workers": asked}}, "tiny").data
    assert data.workers_for(cores, on_gpu) == workers


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evals.benches=synthetic", "evals.benches: must be a list: [synthetic], got 'synthetic'"),
        ("optim=3", "optim: must be a table of fields, got 3"),
        ("losses=3", "losses: must be a table of fields, got 3"),
        ("seed=true", "seed: must be a number, not true or false, got True"),
        ("optim.batch=true", "optim.batch: must be a number, not true or false, got True"),
        ("losses.pose.weight=false", "losses.pose.weight: must be a number, not true or false, got False"),
        ("data.mix.synthetic=true", "data.mix: synthetic: must be a number, not true or false"),
        ("speed.keep_memory=AUTO", "speed.keep_memory: must be auto, on or off, got 'AUTO'"),
        ("speed.fused=perhaps", "speed.fused: must be true or false, got 'perhaps'"),
        ("data.workers=100000", "data.workers: must be at most 1024, got 100000"),
        ("losses.pose.weight=1e300", "losses.pose.weight: must be at most 1e+30, got '1e300'"),
        ("optim.lr=1.0e+300", "optim.lr: must be at most 1e+30, got 1e+300"),
    ],
)
def test_a_wrong_value_is_answered_in_the_words_of_a_spec(override: str, said: str) -> None:
    path = Path(__file__).parents[1] / "specs" / "quickstart.yaml"
    with pytest.raises(SpecError) as refused:
        load_experiment(path, (override,))
    assert str(refused.value) == f"{path}: {said}"


def test_a_whole_number_is_a_rate_and_auto_is_on_or_off_too() -> None:
    path = Path(__file__).parents[1] / "specs" / "quickstart.yaml"
    read = load_experiment(path, ("optim.lr=1", "losses.pose.weight=1e-3", "speed.keep_memory=off"))
    assert (read.optim.lr, read.losses["pose"].weight, read.speed.keep_memory) == (1.0, 1e-3, False)

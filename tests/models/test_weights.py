from pathlib import Path

import pytest
import torch
import yaml
from command import hmrb, refused
from conftest import tiny_tree
from safetensors.torch import save_file

from hmrb.checkpoint import Checkpoint, save_checkpoint
from hmrb.errors import RequestError
from hmrb.models import hub
from hmrb.models.backbones import find_backbone
from hmrb.models.hmr import HMR, build_model
from hmrb.spec import Experiment, ModelSpec
from hmrb.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "home")
    store.weights.mkdir(parents=True)
    return store


def mini(weights: str | Path = "none", store: Store | None = None) -> HMR:
    return build_model(ModelSpec(backbone="mini", weights=str(weights), image_px=32), store)


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = network.state_dict(), other.state_dict()
    return all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("layout", ["ours", "timm", "study", "pose", "data parallel", "half", "safetensors"])
def test_weights_come_from_a_file_of_any_of_these_layouts(
    layout: str, tmp_path: Path, tiny_experiment: Experiment
) -> None:
    donor = mini()
    path = tmp_path / "weights.pth"
    state = donor.backbone.network.state_dict()
    rest = ""
    if layout == "ours":
        checkpoint = Checkpoint(
            tiny_experiment.model_dump_json(), donor.state_dict(), {}, 7, {}, {}, "", None, "", ""
        )  # fmt: skip
        save_checkpoint(checkpoint, path)
        rest = "; unused: head (13)"
    elif layout == "timm":
        torch.save({**state, "fc.weight": torch.ones(1000, 256), "fc.bias": torch.ones(1000)}, path)
        rest = "; unused: fc (2)"
    elif layout == "study":
        theirs = {f"backbone.{key}": value for key, value in state.items()}
        head = {f"head.{key}": value for key, value in donor.head.state_dict().items()}
        torch.save({"meta": {}, "state_dict": theirs | head | {"disc.a.weight": torch.ones(1)}}, path)
        rest = "; unused: disc (1), head (13)"
    elif layout == "pose":
        theirs = {f"backbone.{key}": value for key, value in state.items()}
        torch.save({"state_dict": theirs | {"keypoint_head.final_layer.weight": torch.ones(17, 256)}}, path)
        rest = "; unused: keypoint_head (1)"
    elif layout == "data parallel":
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, path)
    elif layout == "half":
        # torch before 0.4.1 had no num_batches_tracked
        torch.save({key: value.half() for key, value in state.items() if "num_batches" not in key}, path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    copy = mini(path)
    used = len(state) if layout != "half" else sum("num_batches" not in key for key in state)
    assert copy.weights_used == f"weights: {path}: {used} tensors used{rest}"
    if layout != "half":
        assert same(copy.backbone, donor.backbone)
    assert not same(copy.head, donor.head)


def test_imagenet_weights_are_looked_for_in_the_store_first(store: Store) -> None:
    spec = ModelSpec(backbone="test_vit", weights="none", image_px=160)
    donor = build_model(spec)
    path = store.weights / "test_vit.safetensors"
    head = {"head.weight": torch.ones(1000, 64), "head.bias": torch.ones(1000)}
    save_file({**donor.backbone.network.state_dict(), **head}, path)
    model = build_model(spec.model_copy(update={"weights": "imagenet"}), store)
    assert model.weights_used.startswith(f"weights: {path}: ")
    assert model.weights_used.endswith("unused: head (2)")
    assert same(model.backbone, donor.backbone)
    larger = build_model(spec.model_copy(update={"weights": "imagenet", "image_px": 192}), store)
    assert larger.backbone.network.pos_embed.shape[1] == 12 * 12 + 1  # timm interpolates the position embedding


def test_imagenet_weights_that_can_t_be_fetched_are_named_with_their_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    create = timm.create_model

    def offline(name: str, pretrained: bool, **args: object) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **args)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(hub, "silence", lambda _: "")
    with pytest.raises(
        RequestError, match=r"of 'resnet50.tv_in1k' \(OSError: no route to host\).*resnet50.tv_in1k.safe"
    ):
        build_model(ModelSpec(), store)


def test_pose_weights_are_asked_for_by_file_name(store: Store) -> None:
    said = f"mpii needs {store.weights}/resnet50_mpii.pth, which does not exist. .*trained on MPII "
    said += ".*resnet50_mpii_pose.pth of the study"
    with pytest.raises(RequestError, match=said):
        build_model(ModelSpec(weights="mpii"), store)
    with pytest.raises(
        RequestError, match=r"coco needs .*swin_t_coco.pth.*\(from mmpose's model zoo\) and put it there"
    ):
        build_model(ModelSpec(backbone="swin", weights="coco"), store)
    donor = mini()
    state = {f"backbone.{key}": value for key, value in donor.backbone.network.state_dict().items()}
    torch.save({"state_dict": state}, store.weights / "mini_coco.pth")
    assert same(mini("coco", store).backbone, donor.backbone)


def test_a_pose_network_s_hrnet_lacks_what_classifying_needs(store: Store) -> None:
    spec = ModelSpec(backbone="hrnet_w32", weights="none", image_px=64)
    donor = build_model(spec).backbone.network.state_dict()
    unused = ("incre_modules", "downsamp_modules", "final_layer", "stage4.2.fuse_layers.1")
    state = {key: value for key, value in donor.items() if not key.startswith(unused)}
    state["final_layer.weight"], state["final_layer.bias"] = torch.ones(17, 32, 1, 1), torch.ones(17)
    torch.save(state, store.weights / "hrnet_w32_coco.pth")
    used = build_model(spec.model_copy(update={"weights": "coco"}), store).weights_used
    assert "unused: final_layer (2); left as initialised: downsamp_modules (" in used
    assert "stage4 (" in used
    del state["stage4.0.fuse_layers.0.1.0.weight"]
    torch.save(state, store.weights / "hrnet_w32_coco.pth")
    with pytest.raises(RequestError, match=r"1 missing in the file \(network.stage4.0.fuse_layers.0.1.0.weight\)"):
        build_model(spec.model_copy(update={"weights": "coco"}), store)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "gone",
            r"model.weights: no file .*weights.pth, neither in the current directory nor in .*;"
            r" use none, imagenet, mpii, coco, or the path of a checkpoint",
        ),
        ("more", r"weights.pth: does not fit: 1 not in the model \(network.layer9.weight\)"),
        ("less", r"does not fit: 1 missing in the file \(network.layer1.0.conv1.weight\)"),
        ("shape", r"1 with a wrong shape \(network.layer1.0.conv1.weight \(3,\), expected \(32, 32, 3, 3\)\)"),
        ("other backbone", r"weights of backbone 'mini', but the model has 'vit_b16'; set model.backbone to mini"),
        ("text", r"weights.pth: not a weights file written by torch, or truncated"),
    ],
)
def test_weights_that_do_not_fit_are_refused(kind: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = mini().backbone.network.state_dict()
    if kind == "more":
        state["layer9.weight"] = torch.ones(3)
    elif kind == "less":
        del state["layer1.0.conv1.weight"]
    elif kind == "shape":
        state["layer1.0.conv1.weight"] = torch.ones(3)
    if kind == "text":
        path.write_text("hello\n" * 100)
    elif kind != "gone":
        torch.save(state, path)
    with pytest.raises(RequestError, match=message):
        if kind == "other backbone":
            build_model(ModelSpec(backbone="vit_b16", weights=str(path), image_px=64))
        else:
            mini(path)


def test_missing_weights_are_told_before_a_run_begins(tiny_store: Store, tmp_path: Path) -> None:
    tree = tiny_tree()
    tree["model"]["weights"] = "coco"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    done = hmrb("train", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), home=tiny_store.root)
    refused(done, "hmrb: tiny needs 1 thing that is not here", f"{tiny_store.weights}/mini_coco.pth")
    assert not (tmp_path / "run").exists()


def test_the_mini_backbone_has_no_imagenet_weights() -> None:
    assert not find_backbone("mini").pretrained
    with pytest.raises(RequestError, match="'mini' has no ImageNet weights; set model.weights to none"):
        mini("imagenet")


def test_the_backbone_of_the_model_in_the_package_is_a_start() -> None:
    from hmrb.checkpoint import load_checkpoint
    from hmrb.models.demo import demo_path

    theirs = load_checkpoint(demo_path()).model
    mine = mini("demo").backbone.state_dict()
    assert all(torch.equal(value, theirs[f"backbone.{key}"]) for key, value in mine.items())
    with pytest.raises(RequestError, match="demo.pt"):
        build_model(ModelSpec(backbone="resnet18", weights="demo", image_px=32))

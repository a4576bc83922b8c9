"""Where bodies, regressors, weights and occluders are looked for, and how each is got. Reads no file."""

import os
from collections.abc import Iterator
from pathlib import Path

from hmrb.errors import Need
from hmrb.names import BACKBONE_ALIASES, IMAGENET
from hmrb.store import Store

SMPL_PAGES = {
    "body": "https://smpl.is.tue.mpg.de (neutral: https://smplify.is.tue.mpg.de)",
    "regressor": "SPIN's data archive, https://github.com/nkolot/SPIN (fetch_data.sh)",
    "spin19": "4D-Humans' data archive, https://github.com/shubham-goel/4D-Humans (fetch_demo_data.sh)",
}
BODY_PAGES = {
    "neutral": "https://smplify.is.tue.mpg.de",
    "male": "https://smpl.is.tue.mpg.de",
    "female": "https://smpl.is.tue.mpg.de",
}
SPIN_PAGE, HMR2_PAGE = "https://github.com/nkolot/SPIN", "https://github.com/shubham-goel/4D-Humans"
SMPLX_PAGE = "https://smpl-x.is.tue.mpg.de"
BEDLAM_PAGE = "https://github.com/pixelite1201/BEDLAM"
TO_SMPL = "smplx2smpl.pkl"
"""The matrix from SMPL-X's vertices to SMPL's, in BEDLAM's data (utils/)."""
REGRESSOR_FILES = ("J_regressor_h36m.npy", "J_regressor_extra.npy")
SPIN19 = "SMPL_to_J19.pkl"  # optional; some benchmarks need it
MEAN_PARAMS = "smpl_mean_params.npz"
VOC_PAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
SUFFIXES = (".safetensors", ".pth", ".bin")
DEMO = Path(__file__).parent / "models" / "demo.pt"
POSE = {"mpii": "MPII", "coco": "COCO"}
PRETRAINED = ("mini_pose2d.safetensors", "mini_selfsup.safetensors")
"""Backbones of the study in small, which scripts/make_pretrained.py makes."""
POSE_PAGE = "https://mmpose.readthedocs.io/en/latest/model_zoo.html"


def body_need(gender: str) -> Need:
    """How SMPL of one gender is got."""
    return Need(f"SMPL {gender}", "hmrb convert-data body --file FILE", BODY_PAGES[gender])


def smplx_need(gender: str, folder: Path) -> Need:
    """How SMPL-X of one gender is got."""
    return Need(f"SMPL-X {gender}", f"put {smplx_name(gender)} in {folder}", SMPLX_PAGE)


def to_smpl_need(folder: Path) -> Need:
    """How the matrix from SMPL-X's vertices to SMPL's is got."""
    return Need(TO_SMPL, f"put it in {folder}", BEDLAM_PAGE)


def smplx_name(gender: str) -> str:
    """The official name of SMPL-X's file of one gender."""
    return f"SMPLX_{gender.upper()}.npz"


def mean_file(body: str, store: Store) -> Path:
    """Where a body's mean parameters are looked for. SMPL-X starts from SMPL's."""
    return store.bodies / ("smpl" if body == "smplx" else body) / MEAN_PARAMS


def file_need(path: Path) -> Need:
    """How a file that lies beside SMPL is got: a regressor or the mean parameters."""
    return Need(path.name, f"put it in {path.parent}", HMR2_PAGE if path.name == SPIN19 else SPIN_PAGE)


def pascal_need() -> Need:
    """How the occluders of Pascal VOC are got."""
    return Need("occluders of Pascal VOC 2012", "hmrb convert-data occluders --raw DIR", VOC_PAGE)


def timm_name(backbone: str) -> str:
    """The name of a backbone's ImageNet weights at timm; a timm model's own name if the table does not have it."""
    key = backbone.replace("-", "_")
    key = BACKBONE_ALIASES.get(key, key)
    of_architecture = {name.partition(".")[0]: name for name in IMAGENET.values()}
    return IMAGENET.get(key) or of_architecture.get(key, key)


def weights_path(backbone: str, weights: str, store: Store) -> Path | None:
    """The file of a backbone's initial weights, if it is in the store or is a path that exists."""
    if weights == "imagenet":
        return next((path for path in _imagenet_files(backbone, store) if path.is_file()), None)
    if weights == "demo":
        return DEMO
    paths = [pose_file(backbone, weights, store)] if weights in POSE else []
    paths = paths or [Path(weights).expanduser(), store.weights / Path(weights).expanduser()]
    return next((path for path in paths if path.is_file()), None)


def _imagenet_files(backbone: str, store: Store) -> Iterator[Path]:
    return (store.weights / f"{timm_name(backbone)}{suffix}" for suffix in SUFFIXES)


def pose_file(backbone: str, weights: str, store: Store) -> Path:
    """Where the weights of a pose network are looked for."""
    key = backbone.replace("-", "_")
    return store.weights / f"{BACKBONE_ALIASES.get(key, key)}_{weights}.pth"


def weights_need(backbone: str, weights: str, store: Store) -> Need:
    """How a backbone's initial weights are got. ImageNet's are downloaded on first use."""
    if weights == "imagenet":
        name = timm_name(backbone)
        place = f"put {name}.safetensors in {store.weights}"
        return Need(f"ImageNet weights of {backbone}", place, f"{hub_address()}/timm/{name}", is_automatic=True)
    if weights in POSE:
        path = pose_file(backbone, weights, store)
        return Need(f"{backbone} trained on {POSE[weights]}", f"put it at {path}", POSE_PAGE)
    if weights in PRETRAINED:
        return Need(
            f"weights {weights}",
            f"python scripts/make_pretrained.py of the repository, which puts them in {store.weights}",
        )
    return Need(f"weights {weights}", f"put the file there, or in {store.weights}")


def hub_address() -> str:
    """The address of the hub that timm's weights are on."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_cache() -> Path:
    """The folder where the hub's client keeps what it has downloaded."""
    if named := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(named)).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.path.expandvars(os.environ.get("HF_HOME") or f"{caches}/huggingface")).expanduser() / "hub"


def is_cached(name: str) -> bool:
    """Whether timm's weights of this name were downloaded before."""
    snapshots = hub_cache() / f"models--timm--{name}" / "snapshots"
    return any(path.is_file() for suffix in SUFFIXES for path in snapshots.glob(f"*/*{suffix}"))

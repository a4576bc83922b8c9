"""The model in the package: `specs/demo.yaml` trained on the synthetic people. See docs/demo.md."""

from pathlib import Path

from hmrb.formats.files import check_sha256

DEMO_NAME = "demo"  # where a command takes a checkpoint
DEMO = Path(__file__).parent / "demo.pt"
_SHA256 = "ca78e3d09e1e963c2522927f43edfc7ba5ce2e7b95dfd2980d5582f38e3af3f8"  # of what scripts/make_demo.py wrote


def demo_path() -> Path:
    """The package's checkpoint. Raises RequestError if its file is missing or damaged."""
    check_sha256(DEMO, _SHA256, "install hmrb again")
    return DEMO


def named_checkpoint(word: Path) -> Path:
    """`demo` as the package's checkpoint, unless a file or a run of that name is there; other words as they are."""
    is_taken = word.is_file() or any(word.glob("*.pt")) or (word / "spec.yaml").exists()
    return demo_path() if word == Path(DEMO_NAME) and not is_taken else word

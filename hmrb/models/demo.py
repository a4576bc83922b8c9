"""The model in the package: `specs/demo.yaml` trained on the synthetic people. See docs/demo.md."""

from pathlib import Path

from hmrb.formats.files import check_sha256

DEMO_NAME = "demo"  # where a command takes a checkpoint
DEMO = Path(__file__).parent / "demo.pt"
_SHA256 = "353beb9ca12f16cd28ea4fbd2de24bebe62c3886692e4839f04609215ce59bf8"  # of what scripts/make_demo.py wrote


def demo_path() -> Path:
    """The package's checkpoint. Raises RequestError if its file is missing or damaged."""
    check_sha256(DEMO, _SHA256, "install hmrb again")
    return DEMO


def named_checkpoint(word: Path) -> Path:
    """`demo` as the package's checkpoint, unless a file or a run of that name is there; other words as they are."""
    is_taken = word.is_file() or any(word.glob("*.pt")) or (word / "spec.yaml").exists()
    return demo_path() if word == Path(DEMO_NAME) and not is_taken else word

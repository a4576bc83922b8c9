"""The model zoo: checkpoints that others have published, where they are obtained, and their published numbers.

The rows are in zoo.yaml. A file is looked for in the store's models/, under the name that it was published with or the
row's name, else by its hash; a pose network or ImageNet backbone also in weights/. hmrb downloads none of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from hmrb.errors import RequestError
from hmrb.formats.files import check_sha256, files_in, reason, sha256_of
from hmrb.lookup import did_you_mean, find
from hmrb.models.demo import DEMO_NAME
from hmrb.spec import Expected, Published, SpecModel
from hmrb.store import Store

SUFFIXES = (".pt", ".pth", ".ckpt")
TOLERANCE = 0.5
"""Allowed difference from a published number, in the metric's unit. Most are rounded to 0.1; decoders, crops and
arithmetic of another machine move a mean by some tenths."""


class ZooFamily(SpecModel):
    """A project that publishes checkpoints, at one commit of its repository; the defaults of its models.

    `page` is the file of the repository that says where the weights are. A licence is empty if no file states it.
    """

    title: str
    repository: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    page: str
    code_licence: str = ""
    weights_licence: str = ""
    access: str = "open"
    kind: Literal["model", "backbone"] = "model"
    imports: bool = False

    def address(self, path: str) -> str:
        """The address of a file of the repository at the commit; complete addresses stay as they are."""
        if path.startswith("https://"):
            return path
        return f"https://github.com/{self.repository}/blob/{self.commit}/{path}"


class ZooModel(SpecModel):
    """A published checkpoint.

    `file` is its published name, empty if no source states it; `saved_as` the name by which a spec's `model.weights`
    finds it; `sha256` the first digits of its hash; `obtained` the address as the page gives it; `imports` whether hmrb
    can read it; `spec` the recipe, in specs/. `published` has one number per row, under hmrb's names of protocols.
    """

    name: str
    family: ZooFamily
    title: str
    obtained: str
    file: Annotated[str, Field(pattern=r"^[^/\\]*$")] = ""
    saved_as: Annotated[str, Field(pattern=r"^[^/\\]*$")] = ""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{8,64})?$")] = ""
    page: str
    access: str
    code_licence: str
    weights_licence: str
    kind: Literal["model", "backbone"]
    body: Literal["smpl", "smplx"] = "smpl"
    imports: bool
    spec: str = ""
    note: str = ""
    published: tuple[Published, ...] = ()

    @property
    def expected(self) -> tuple[Expected, ...]:
        """The published numbers, which an evaluation must reproduce within TOLERANCE; the source has the doubt too."""
        return tuple(
            Expected(
                benchmark=row.benchmark,
                metric=row.metric,
                value=row.value,
                tolerance=TOLERANCE,
                source=f"{row.source}; doubtful: {row.doubt}" if row.doubt else row.source,
            )
            for row in self.published
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its file in the store's models/, the published one first."""
        own = (f"{self.name}{suffix}" for suffix in SUFFIXES)
        return tuple(dict.fromkeys([*([self.file] if self.file else []), *own]))

    def here(self, store: Store) -> Path | None:
        """Its file in the store: by name, else by hash among the files that no row names. Does not check the hash."""
        named = [store.models / name for name in self.names]
        if self.kind == "backbone":
            named += [store.weights / name for name in (self.saved_as, self.file) if name]
        if found := next((path for path in named if path.is_file()), None):
            return found
        others = _unnamed(store) if self.sha256 else ()
        return next((path for path in others if _sha256(path).startswith(self.sha256)), None)

    def file_in(self, store: Store) -> Path:
        """Its file, the hash checked. Raises RequestError with where it is obtained, or what else is wrong."""
        path = self.here(store)
        if path is None:
            raise RequestError(self.how_to_get(store))
        if self.sha256:
            check_sha256(
                path, self.sha256, f"another file than the published one, or a broken download: {self.obtained}"
            )
        if self.kind == "backbone":
            raise RequestError(f"{self.name}: no body model; to train from it, set model.weights: {path} in a spec")
        if not self.imports:
            raise RequestError(
                f"{self.name}: {path} is here, but hmrb cannot run {self.family.title}; let its own code predict, and"
                " score the file: hmrb eval --from-predictions FILE --bench NAME"
            )
        return path

    def how_to_get(self, store: Store) -> str:
        """What to do for a file that is not here."""
        folder = store.weights if self.saved_as else store.models
        return (
            f"{self.name} was never downloaded here: get {self.file or self.title} from {self.obtained} ({self.access};"
            f" see {self.family.address(self.page)}; {licences(self)}) and put it at"
            f" {folder / (self.saved_as or self.names[0])}"
            f"{'' if self.imports else '; hmrb cannot run it, but scores its predictions: --from-predictions'}"
        )


def licences(row: ZooFamily | ZooModel) -> str:
    """The licences of a project's code and weights in words."""
    return f"licence: code {row.code_licence or 'not stated'}; weights {row.weights_licence or 'not stated'}"


def find_row(name: str) -> ZooModel | None:
    """The row of a name, or None; `-` and `_` are equal."""
    return ZOO.get(name.replace("-", "_"))


def zoo_model(name: str) -> ZooModel:
    """The row of a name. Raises UnknownName with the nearest names."""
    return find("model", name, ZOO)


def near(name: str) -> str:
    """` Did you mean 'spin'?`, or an empty string."""
    return did_you_mean(name.replace("-", "_"), {**ZOO, DEMO_NAME: None})


def _unnamed(store: Store) -> Iterator[Path]:
    """The files in the store's models/ whose names no row knows."""
    known = {name for row in ZOO.values() for name in row.names}
    yield from (path for path in files_in(store.models, "*") if path.is_file() and path.name not in known)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}") from None


def read_zoo(tree: dict[str, Any]) -> dict[str, ZooModel]:
    """The rows of a table as in zoo.yaml. Raises pydantic's ValidationError, or KeyError for an unknown family."""
    families = {name: ZooFamily.model_validate(fields) for name, fields in tree["families"].items()}
    inherited = ("page", "access", "code_licence", "weights_licence", "kind", "imports")
    rows = {}
    for name, fields in tree["models"].items():
        family = families[fields["family"]]
        defaults = {key: getattr(family, key) for key in inherited}
        row = ZooModel.model_validate({"name": name, **defaults, **fields, "family": family})
        published = [number.model_copy(update={"source": family.address(number.source)}) for number in row.published]
        rows[name] = row.model_copy(update={"published": tuple(published)})
    return rows


_TREE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
FAMILIES = {name: ZooFamily.model_validate(fields) for name, fields in _TREE["families"].items()}
ZOO = read_zoo(_TREE)

"""Resolves the setting `model` (a name, hub id or directory) to files on disk."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatterbox import mini
from chatterbox.config import TTSConfig
from chatterbox.config.tts import PrecisionSetting
from chatterbox.errors import ModelError
from chatterbox.hub import download as hub
from chatterbox.hub.files import FamilyFiles, Graph, ModelFiles, Precision, Repository, graph_file

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

CONFIG_ONLY = Repository((), ("config.json",))
"""Only `config.json`, which identifies the family of an unknown hub model."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The model to load: its family and its files."""

    name: str  # "mini", a hub id, or a directory's name
    family: str
    files: ModelFiles
    fallback: str | None = None  # why `auto` chose `mini`


def precisions(config: TTSConfig, device: str, graph: Graph) -> tuple[Precision, ...]:
    """Return the precisions to try for a graph, best first: the graph's own setting, `model_dtype`,
    or the device's defaults. Raises ModelError if the graph's own setting is of unacceptable
    quality."""
    own: PrecisionSetting | None = getattr(config, graph.setting)
    chosen = own or config.model_dtype
    if chosen == "auto" or (chosen not in graph.precisions and not own):
        suitable = graph.automatic[device]
        return (suitable,) if isinstance(suitable, str) else suitable
    if chosen not in graph.precisions:
        usable = " or ".join(graph.precisions)
        raise ModelError(f"{graph.setting} is {chosen}, but {graph.name} is usable in {usable}")
    return (chosen,)


@dataclass(frozen=True, slots=True)
class Selector:
    """Finds the model and downloads missing files. Methods raise ModelError."""

    config: TTSConfig
    device: str
    notify: hub.Notify
    families: Sequence[FamilyFiles]  # `auto` and `mini` belong to the first

    def select(self) -> Selection:
        """Select the configured model. Only `auto` falls back to `mini`."""
        model = self.config.model
        if model in ("mini", "auto"):
            return self.embedded() if model == "mini" else self.automatic()
        for family in self.families:
            for name, (hub_id, revision) in family.models.items():
                if model in (name, hub_id):
                    return self.from_hub(hub_id, revision, family)
        directory = Path(model).expanduser()
        if directory.is_dir():
            directory = directory.resolve()
            return self.in_directory(directory.name, self.family_of(directory), directory)
        if _HUB_ID.fullmatch(model):
            return self.from_hub(model, "main")
        raise ModelError(f"CHATTERBOX_MODEL={model}: neither a directory nor a hub id (owner/name)")

    def automatic(self) -> Selection:
        family = self.families[0]
        hub_id, revision = next(iter(family.models.values()))
        revision = self.config.model_revision or revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        complete = hub.complete(directory, self.names(family.repositories[0], directory))
        if not complete and not hub.reachable(hub_id, revision):
            return self.fallback(
                f"{hub_id} is not on this disk and the hub cannot be reached. "
                "Start again with a network to download it"
            )
        try:
            return self.from_hub(hub_id, revision, family)
        except ModelError as fault:
            return self.fallback(str(fault))

    def embedded(self) -> Selection:
        own = [getattr(self.config, g.setting) for g in self.families[0].repositories[0].graphs]
        if {self.config.model_dtype, *own} - {None, "auto", mini.PRECISION}:
            raise ModelError(
                f"The embedded model is only available in {mini.PRECISION}; set the precision to "
                "`auto`, or convert the model with `python tools/build_model.py convert`"
            )
        return self.fallback()

    def fallback(self, reason: str | None = None) -> Selection:
        """Select the embedded model in its only precision."""
        family = self.families[0]
        graphs = [graph.name for graph in family.repositories[0].graphs]
        files = ModelFiles(mini.path(), dict.fromkeys(graphs, mini.PRECISION))
        files.check()
        return Selection("mini", family.family, files, reason)

    def from_hub(self, hub_id: str, revision: str, family: FamilyFiles | None = None) -> Selection:
        """Select a hub model. If `family` is None, its `config.json` decides."""
        revision = self.config.model_revision or revision
        if family is None:
            family = self.family_of(self.fetch(CONFIG_ONLY, hub_id, revision))
        directory = self.fetch(family.repositories[0], hub_id, revision)
        return self.in_directory(hub_id, family, directory)

    def in_directory(self, name: str, family: FamilyFiles, directory: Path) -> Selection:
        """Select the model in `directory`. Download companion repositories it does not contain."""
        precisions: dict[str, Precision] = {}
        elsewhere: dict[str, Path] = {}
        for repository in family.repositories:
            folder = directory
            if repository.hub_id:
                folder = directory / repository.folder
                if not repository.folder or not folder.is_dir():
                    folder = self.fetch(repository)
            for graph in repository.graphs:
                precision = self.choose(graph, folder)
                if not graph.optional or (folder / graph_file(graph.name, precision)).is_file():
                    precisions[graph.name] = precision
                    elsewhere |= {} if folder == directory else {graph.name: folder}
        files = ModelFiles(directory, precisions, elsewhere)
        files.check()
        return Selection(name, family.family, files)

    def fetch(self, repository: Repository, hub_id: str = "", revision: str = "") -> Path:
        """Download the missing files of a repository and return its directory. Of several suitable
        precisions, the first that the hub has is downloaded. `hub_id` and `revision` override those
        of `repository`."""
        hub_id, revision = hub_id or repository.hub_id, revision or repository.revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        if not hub.complete(directory, self.names(repository, directory)):
            candidates = [
                (graph, precisions(self.config, self.device, graph)) for graph in repository.graphs
            ]
            published: set[str] = set()
            if any(len(suitable) > 1 for _, suitable in candidates):
                files = [graph_file(graph.name, p) for graph, ps in candidates for p in ps]
                published = hub.published(hub_id, revision, files)
            needed = self.names(repository, directory, published)
            optional = self.names(repository, directory, published, optional=True)
            hub.fetch(hub_id, revision, needed, directory, self.notify, optional)
        return directory

    def names(
        self,
        repository: Repository,
        directory: Path,
        published: Collection[str] = (),
        *,
        optional: bool = False,
    ) -> list[str]:
        """Return the names of a repository's required files, or of its `optional` files, with
        graphs in the chosen precisions."""
        graphs = [
            graph_file(graph.name, self.choose(graph, directory, published))
            for graph in repository.graphs
            if graph.optional is optional
        ]
        return [*(repository.optional_files if optional else repository.files), *graphs]

    def choose(self, graph: Graph, directory: Path, published: Collection[str] = ()) -> Precision:
        """Return the first suitable precision in `directory` or `published`; else the best one."""
        suitable = precisions(self.config, self.device, graph)
        for precision in suitable:
            file = graph_file(graph.name, precision)
            if file in published or (directory / file).exists():
                return precision
        return suitable[0]

    def family_of(self, directory: Path) -> FamilyFiles:
        """Return the family that `config.json` names, or the first family if it names none: models
        of the first family need no `config.json`."""
        model_type = str(ModelFiles(directory, {}).config().get("model_type", "")).lower()
        matches = (family for family in self.families if model_type in family.model_types)
        return next(matches, self.families[0])

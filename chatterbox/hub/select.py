"""Finds the model to serve: `auto`, `mini`, a name, a hub id or a directory → files on disk."""

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


JUST_CONFIG = Repository((), ("config.json",))
"""Of a model whose family only that file tells."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What will be loaded."""

    name: str  # "mini", a hub id, or a directory's name
    family: str
    files: ModelFiles
    fallback: str | None = None  # why `auto` settled for `mini`


def select(
    config: TTSConfig, device: str, say: hub.Progress, families: Sequence[FamilyFiles]
) -> Selection:
    """Find, and where need be fetch, the model. `auto` and `mini` are of the first of `families`.
    Raises ModelError: a model named explicitly never falls back."""
    return _Selector(config, device, say, families).selected()


def precisions(config: TTSConfig, device: str, graph: Graph) -> tuple[Precision, ...]:
    """Of a graph: its own setting, else `model_dtype`, else what suits the device, the best first.
    Raises ModelError where its own setting asks for one that speaks badly."""
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
class _Selector:
    config: TTSConfig
    device: str
    say: hub.Progress
    families: Sequence[FamilyFiles]

    def selected(self) -> Selection:
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
            return self.checked(directory.name, self.family_of(directory), directory)
        if _HUB_ID.fullmatch(model):
            return self.from_hub(model, "main")
        raise ModelError(
            f"CHATTERBOX_MODEL={model}: no such directory, and no hub id (owner/name) either"
        )

    def automatic(self) -> Selection:
        family = self.families[0]
        hub_id, revision = next(iter(family.models.values()))
        revision = self.config.model_revision or revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        there = hub.complete(directory, self.names(family.repositories[0], directory))
        if not there and not hub.reachable(hub_id, revision):
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
                f"The embedded model is there in {mini.PRECISION} alone; leave the precision to "
                "`auto`, or make another with `python tools/build_model.py convert`"
            )
        return self.fallback()

    def fallback(self, reason: str | None = None) -> Selection:
        """The embedded model, in the one precision that it has."""
        family = self.families[0]
        graphs = [graph.name for graph in family.repositories[0].graphs]
        files = ModelFiles(mini.path(), dict.fromkeys(graphs, mini.PRECISION))
        files.check()
        return Selection("mini", family.family, files, reason)

    def from_hub(self, hub_id: str, revision: str, family: FamilyFiles | None = None) -> Selection:
        """`family`: None where only its `config.json` says."""
        revision = self.config.model_revision or revision
        if family is None:
            family = self.family_of(self.fetched(JUST_CONFIG, hub_id, revision))
        directory = self.fetched(family.repositories[0], hub_id, revision)
        return self.checked(hub_id, family, directory)

    def checked(self, name: str, family: FamilyFiles, directory: Path) -> Selection:
        """The model in `directory` with its companions, which are fetched where it has none."""
        precisions: dict[str, Precision] = {}
        elsewhere: dict[str, Path] = {}
        for repository in family.repositories:
            place = directory
            if repository.hub_id:
                beside = directory / repository.folder
                own = bool(repository.folder) and beside.is_dir()
                place = beside if own else self.fetched(repository)
            for graph in repository.graphs:
                chosen = self.chosen(graph, place)
                if not graph.optional or (place / graph_file(graph.name, chosen)).is_file():
                    precisions[graph.name] = chosen
                    elsewhere |= {} if place == directory else {graph.name: place}
        files = ModelFiles(directory, precisions, elsewhere)
        files.check()
        return Selection(name, family.family, files)

    def fetched(self, repository: Repository, hub_id: str = "", revision: str = "") -> Path:
        """Where its files are on this disk, brought there where they were not; of precisions that
        are as good, the first that the hub has. The hub's id and revision: of one that is not the
        family's own."""
        hub_id, revision = hub_id or repository.hub_id, revision or repository.revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        if not hub.complete(directory, self.names(repository, directory)):
            suitable = [
                (graph, precisions(self.config, self.device, graph)) for graph in repository.graphs
            ]
            files = [graph_file(graph.name, one) for graph, some in suitable for one in some]
            choice = any(len(some) > 1 for _, some in suitable)
            published = hub.published(hub_id, revision, files) if choice else set[str]()
            needed = self.names(repository, directory, published)
            optional = self.names(repository, directory, published, optional=True)
            hub.fetch(hub_id, revision, needed, directory, self.say, optional)
        return directory

    def names(
        self,
        repository: Repository,
        directory: Path,
        published: Collection[str] = (),
        *,
        optional: bool = False,
    ) -> list[str]:
        """Its files, in the precisions that are chosen; or those graphs that may be missing."""
        graphs = [
            graph_file(graph.name, self.chosen(graph, directory, published))
            for graph in repository.graphs
            if graph.optional is optional
        ]
        return [*(repository.optional_files if optional else repository.files), *graphs]

    def chosen(self, graph: Graph, directory: Path, published: Collection[str] = ()) -> Precision:
        """The first suitable precision that is in `directory` or `published`."""
        suitable = precisions(self.config, self.device, graph)
        for one in suitable:
            file = graph_file(graph.name, one)
            if file in published or (directory / file).exists():
                return one
        return suitable[0]

    def family_of(self, directory: Path) -> FamilyFiles:
        """As `config.json` says. The first family's files need none, so whatever is not known to be
        of another one is taken for it, and its graphs are checked."""
        kind = str(ModelFiles(directory, {}).config().get("model_type", "")).lower()
        known = (family for family in self.families if kind in family.model_types)
        return next(known, self.families[0])

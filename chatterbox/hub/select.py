"""Which model is served? `auto`, `mini`, a name, a hub id or a directory → files on disk.

Knows the rules of falling back; knows no session, and families only by what they say of their
files.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatterbox import mini
from chatterbox.config import PrecisionSetting, TTSConfig
from chatterbox.errors import ModelError
from chatterbox.hub import download as hub
from chatterbox.hub.files import FamilyFiles, Graph, ModelFiles, Precision, Repository, graph_file

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


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
        if model == "mini":
            return self.embedded()
        if model == "auto":
            return self.automatic()
        for family in self.families:
            for name, (hub_id, revision) in family.models.items():
                if model in (name, hub_id):
                    return self.from_hub(hub_id, revision, family)
        directory = Path(model).expanduser()
        if directory.is_dir():
            directory = directory.resolve()
            return self.checked(directory.name, self.family_of(directory), directory)
        if _HUB_ID.fullmatch(model):
            return self.from_hub(model, "main", None)
        raise ModelError(
            f"CHATTERBOX_MODEL={model}: no such directory, and no hub id (owner/name) either"
        )

    def automatic(self) -> Selection:
        family = self.families[0]
        hub_id, revision = next(iter(family.models.values()))
        revision = self.config.model_revision or revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        needed = self.needed(family.repositories[0], directory)
        if not hub.complete(directory, needed) and not hub.reachable(hub_id, revision):
            return self.fallback(f"{hub_id} is not on this disk and the hub cannot be reached")
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

    def from_hub(self, hub_id: str, revision: str, family: FamilyFiles | None) -> Selection:
        """`family`: None where only its `config.json` says."""
        revision = self.config.model_revision or revision
        directory = hub.local_directory(self.config.data_dir, hub_id, revision)
        if family is None:
            self.fetch(hub_id, revision, ["config.json"], directory)
            family = self.family_of(directory)
        self.fetch_repository(family.repositories[0], hub_id, revision, directory)
        return self.checked(hub_id, family, directory)

    def checked(self, name: str, family: FamilyFiles, directory: Path) -> Selection:
        """The model in `directory` with its companions, which are fetched where it has none."""
        precisions: dict[str, Precision] = {}
        elsewhere: dict[str, Path] = {}
        for repository in family.repositories:
            own = repository is family.repositories[0]
            place = directory if own else self.companion(repository, directory)
            for graph, chosen in self.chosen(repository, place):
                if graph.optional and not (place / graph_file(graph.name, chosen)).is_file():
                    continue
                precisions[graph.name] = chosen
                if place != directory:
                    elsewhere[graph.name] = place
        files = ModelFiles(directory, precisions, elsewhere)
        files.check()
        return Selection(name, family.family, files)

    def companion(self, repository: Repository, directory: Path) -> Path:
        """Where a companion's files are: beside the model, or fetched."""
        beside = directory / repository.folder
        if repository.folder and beside.is_dir():
            return beside
        hub_id, revision = repository.hub_id, repository.revision
        place = hub.local_directory(self.config.data_dir, hub_id, revision)
        self.fetch_repository(repository, hub_id, revision, place)
        return place

    def fetch_repository(
        self, repository: Repository, hub_id: str, revision: str, directory: Path
    ) -> None:
        """Its files and graphs; of precisions that are as good, the first that the hub has."""
        published: set[str] = set()
        if not hub.complete(directory, self.needed(repository, directory)):
            choice = [p for g in repository.graphs if len(p := self.precisions(g)) > 1]
            names = [graph_file(g.name, p) for g in repository.graphs for p in self.precisions(g)]
            published = hub.published(hub_id, revision, names) if choice else published
        needed = self.needed(repository, directory, published)
        optional = self.optional(repository, directory, published)
        self.fetch(hub_id, revision, needed, directory, optional)

    def fetch(
        self,
        hub_id: str,
        revision: str,
        files: Sequence[str],
        directory: Path,
        optional: Sequence[str] = (),
    ) -> None:
        if not hub.complete(directory, files):
            hub.fetch(hub_id, revision, files, directory, self.say, optional)

    def precisions(self, graph: Graph) -> tuple[Precision, ...]:
        return precisions(self.config, self.device, graph)

    def chosen(
        self, repository: Repository, directory: Path, published: Collection[str] = ()
    ) -> list[tuple[Graph, Precision]]:
        """Its graphs, each in the first precision that is in `directory` or `published`."""

        def first(graph: Graph) -> Precision:
            suitable = self.precisions(graph)
            files = {chosen: graph_file(graph.name, chosen) for chosen in suitable}
            there = (
                p for p in suitable if files[p] in published or (directory / files[p]).exists()
            )
            return next(there, suitable[0])

        return [(graph, first(graph)) for graph in repository.graphs]

    def needed(
        self, repository: Repository, directory: Path, published: Collection[str] = ()
    ) -> list[str]:
        chosen = self.chosen(repository, directory, published)
        return [*repository.files, *(graph_file(g.name, of) for g, of in chosen if not g.optional)]

    def optional(
        self, repository: Repository, directory: Path, published: Collection[str]
    ) -> list[str]:
        chosen = self.chosen(repository, directory, published)
        return [graph_file(g.name, of) for g, of in chosen if g.optional]

    def family_of(self, directory: Path) -> FamilyFiles:
        """As `config.json` says. The first family's files need none, so whatever is not known to be
        of another one is taken for it, and its graphs are checked."""
        kind = str(ModelFiles(directory, {}).config().get("model_type", "")).lower()
        for family in self.families:
            if kind in family.model_types:
                return family
        return self.families[0]

"""Runs the requested report in the process with the stand-ins, which `__main__.py` starts."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.gpu_dry_run.counters import capture, counters, device_memory, events, opened, summary


def report(given: argparse.Namespace) -> int:
    """The project's models, opened and used; JSON to standard output or a file."""
    from tools.gpu_dry_run import subjects

    subjects.take_proofs_as_passed()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if "memory" in given.of:
            found["memory"] = subjects.slots_figures()
            found["memory"]["copies"] = subjects.copies_lie_right()
        for name in [name for name in subjects.MODELS if name in given.of]:
            model = subjects.MODELS[name](Path(folder, name))
            found[name] = _used(subjects, model, Path(folder, f"{name}-data"), given.decoder_on)
    text = json.dumps(found, indent=1)
    if given.json:
        given.json.write_text(text)
    else:
        print(text)
    return 0


def _used(subjects: Any, model: Path | str, data: Path, card: int | None) -> dict[str, Any]:
    """`card`: of the decoder; none: it shares the language model's."""
    with events() as seen:
        engine = subjects.loaded(model, data, decoder_device_id=card)
    found: dict[str, Any] = {
        "notes": list(engine.info.notes),
        "loading": summary(seen, most=0),
        "violations": [event.text for event in seen if event.kind == "violations"],
        "graphs": _placed(data),
        "language model": subjects.language_model_figures(engine),
        "decoder": subjects.decoder_figures(engine),
    }
    with counters() as spoken, events() as seen:
        found["samples"] = asyncio.run(_spoken(engine, subjects.any_voice(engine)))
    found["violations"] += [event.text for event in seen if event.kind == "violations"]
    found["speech"] = subjects.figures(spoken)
    cards = range((card or 0) + 1)
    found["device_memory_gib"] = [device_memory(one)[0] / 2**30 for one in cards]
    engine.close()
    return found


async def _spoken(engine: Any, voice: Any) -> int:
    from chatterbox.engine.speech_stream import SpeechRequest

    tokens = 80 * engine.model.family.codec.tokens_per_frame  # some windows
    request = SpeechRequest("The lamp was lit.", voice, engine.sampling(), 1, max_new_tokens=tokens)
    async with engine.speak(request) as stream:
        return sum([len(piece) async for piece in stream])


def _placed(data: Path) -> dict[str, Any]:
    """Where the nodes of every compiled graph go."""
    found = {}
    for path in sorted((data / "compiled").glob("*/*.onnx")):
        source = json.loads((path.parent / "manifest.json").read_text())["made_from"]
        entries = {"session.model_external_initializers_file_folder_path": str(Path(source).parent)}
        if path.with_name(f"{path.name}_data").is_file():
            entries = {}
        placement = opened(path if not entries else path.read_bytes(), {}, entries)[1]
        cuda, cpu = placement["CUDAExecutionProvider"], placement["CPUExecutionProvider"]
        found[path.stem] = {
            "cuda": cuda.total(),
            "cpu": dict(cpu),
            "memcpy": cuda["MemcpyFromHost"] + cuda["MemcpyToHost"],
        }
    return found


def decoder(given: argparse.Namespace) -> int:
    """A compiled decoder: is it captured, and what do its windows do? JSON."""
    from tools.gpu_dry_run import subjects

    subjects.take_proofs_as_passed()
    print(json.dumps(subjects.compiled_decoder_figures(given.folder), indent=1))
    return 0


def probe(given: argparse.Namespace) -> int:
    """What the server says of the GPU."""
    from chatterbox.runtime.gpu import NoGpu, usable_gpu

    try:
        print(usable_gpu(given.device))
    except NoGpu as why:
        print(why)
        return 1
    return 0


def place(given: argparse.Namespace) -> int:
    """Nodes by provider."""
    print(opened(given.model, dict(given.option), dict(given.session))[1])
    return 0


def try_capture(given: argparse.Namespace) -> int:
    """Whether a CUDA graph can be made of a model."""
    place(given)
    options = {"enable_cuda_graph": "1", **dict(given.option)}
    shapes = {name: [int(n) for n in sizes.split(",") if n] for name, sizes in given.shape}
    fills = {name: float(value) for name, value in given.fill}
    seen: list[Any] = []
    try:
        with events() as seen:
            session, _ = opened(given.model, options, dict(given.session))
            for number, one in enumerate(capture(session, shapes, fills), 1):
                print(f"run {number}: {one}")
    finally:
        for event in seen:
            if event.kind == "violations":
                print(f"capture broken by {event.text}")
    print("capture accepted")
    return 0


def name_and_value(text: str) -> tuple[str, str]:
    """Of NAME=VALUE."""
    name, value = text.rsplit("=", 1)
    return name, value


def add_commands(parser: argparse.ArgumentParser) -> None:
    """What can be asked."""
    commands = parser.add_subparsers(dest="what", required=True)
    reported = commands.add_parser("report", help="the project's own models")
    reported.add_argument("of", nargs="*", default=["memory", "mini", "random", "orpheus"])
    reported.add_argument("--decoder-on", type=int, help="a card of its own (DRY_RUN_DEVICES=2)")
    reported.add_argument("--json", type=Path)
    reported.set_defaults(does=report)
    probed = commands.add_parser("probe", help="what the server says of the GPU")
    probed.add_argument("--device", type=int, default=0)
    probed.set_defaults(does=probe)
    windows = commands.add_parser("decoder", help="a decoder that was compiled on a CPU")
    windows.add_argument("folder", type=Path, help="with facts.json, flow.onnx, vocoder.onnx")
    windows.set_defaults(does=decoder)
    placed = commands.add_parser("place", help="nodes by provider")
    captured = commands.add_parser("capture", help="can a CUDA graph be made of it?")
    placed.set_defaults(does=place)
    captured.set_defaults(does=try_capture)
    pairs = {"--option": "of the CUDA provider", "--session": "entry of the session's options"}
    sizes = {"--shape": "an input's, name=1,4", "--fill": "an input's numbers, name=7"}
    for command, wanted in ((placed, pairs), (captured, pairs | sizes)):
        command.add_argument("model", type=Path)
        for name, what in wanted.items():
            command.add_argument(name, type=name_and_value, action="append", default=[], help=what)


def main() -> int:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_commands(parser)
    given = parser.parse_args()
    try:
        code: int = given.does(given)
    except Exception as fault:
        if given.what == "report":
            raise
        print("refused:", *str(fault).split())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Lets a vocoder's phase go on where the window before left it.

A neural source filter makes its harmonics from a running sum of the pitch (CumSum → sine). Started
anew in every window, the sum would begin at 0 each time, and two windows would meet out of phase.
Here each such sum gets inputs that set it, at a step of the caller's choice, to a value read from
the window before, and an output that gives the value at another step for the window after. It is
summed in double: in single precision the rounding of one second alone shifts the upper harmonics by
half a turn. Where the graph uses nothing but the fraction of a turn, whole turns are dropped before
the sum leaves double: in half precision it would be too coarse after a second, and infinite after
half a minute. A sum over samples is one over mel frames, each with its samples within: a GPU's
CumSum adds up all that is before a step for each step anew.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from chatterbox.compile.graph import EditableGraph, NewNodes, attributes
from chatterbox.errors import ModelError
from chatterbox.runtime.decoder.graph_io import LinearDim, PhaseSum, time_axis
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

WAVES = frozenset({"Sin", "Cos"})
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
KEEPS_FRACTION = frozenset(
    {"Add", "Cast", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose result has the same fraction of a turn whatever whole turns come in."""


def find_sums(model: onnx.ModelProto) -> list[PhaseSum]:
    """Sums whose result goes into a sine."""
    graph = EditableGraph(model)
    sums = (node.output[0] for node in graph.of_type("CumSum"))
    return [PhaseSum(s) for s in sums if any(n.op_type in WAVES for n in _behind(s, graph))]


def _behind(name: str, graph: EditableGraph) -> Iterator[NodeProto]:
    """Every node that `name` goes into, waves included but not what they go into."""
    wanted, seen = [name], {name}
    while wanted:
        for reader in graph.readers.get(wanted.pop(), ()):
            yield reader
            new = set(reader.output) - seen if reader.op_type not in WAVES else set()
            seen |= new
            wanted += new


def refuse_coarse_phase(
    model: onnx.ModelProto, sums: Iterable[PhaseSum], kinds: Mapping[str, int]
) -> None:
    """Raises ModelError where a sum goes to its sine in half precision, whole turns included;
    `kinds` are the sums' element types."""
    graph = EditableGraph(model)
    for name in (s.name for s in sums if not only_fraction_used(s.name, graph)):
        casts = [node for node in _behind(name, graph) if node.op_type == "Cast"]
        if kinds[name] in HALF or any(attributes(node)["to"] in HALF for node in casts):
            raise ModelError(
                "this decoder rounds the phase of its harmonics to half precision before their"
                " sine, so that nothing is left of it after a second:"
                " set CHATTERBOX_CONDITIONAL_DECODER_DTYPE=fp32"
            )


def carry_over(
    model: onnx.ModelProto,
    sums: Mapping[PhaseSum, Sequence[LinearDim]],
    kinds: Mapping[str, int],
    *,
    wide: bool,
) -> None:
    """Give each sum its inputs and its output; `kinds` are their element types. Unless `wide`, sum
    as the graph does, so that nothing changes while `use` is 0 (for proofs)."""
    graph = EditableGraph(model)
    for s, law in sums.items():
        node, axis = graph.producer[s.name], time_axis(law)
        assert axis is not None
        inputs = [(s.carry, TensorProto.DOUBLE, None), (s.use, TensorProto.DOUBLE, [1])]
        inputs += [(s.anchor, TensorProto.INT64, [1]), (s.mark, TensorProto.INT64, [1])]
        model.graph.input.extend(helper.make_tensor_value_info(*given) for given in inputs)
        model.graph.output.append(helper.make_tensor_value_info(s.told, TensorProto.DOUBLE, None))
        new = graph.new(s.name)
        summed_in = TensorProto.DOUBLE if wide else kinds[s.name]
        terms = new.add("Cast", [node.input[0]], "terms", to=summed_in)
        if wide and _by_frames(node, graph, law, axis):
            summed = _sum_by_frames(new, terms, law, axis)
        else:
            summed = new.add("CumSum", [terms, node.input[1]], "summed", **attributes(node))
        # sum + carry − sum at the anchor, in double
        total = new.add("Cast", [summed], "sum", to=TensorProto.DOUBLE)
        there = new.add("Gather", [total, s.anchor], "there", axis=axis)
        undone = new.add("Mul", [there, s.use], "undone")
        made = new.add("Add", [total, new.add("Sub", [s.carry, undone], "shift")], "set")
        new.add("Gather", [made, s.mark], "told", axis=axis)
        if wide and only_fraction_used(s.name, graph):  # less its whole turns
            made = new.add("Sub", [made, new.add("Floor", [made], "whole")], "turns")
        new.add("Cast", [made], to=kinds[s.name])
    graph.rewrite()


def _by_frames(node: NodeProto, graph: EditableGraph, law: Sequence[LinearDim], axis: int) -> bool:
    """Whether the sum `node` is a plain one over the samples of whole mel frames."""
    over = graph.number(graph.through(node.input[1]))
    if over is None or any(attributes(node).values()) or int(over) % len(law) != axis:
        return False
    return law[axis].per_code == SAMPLES_PER_CODE and law[axis].fixed == 0


def _sum_by_frames(new: NewNodes, terms: str, law: Sequence[LinearDim], axis: int) -> str:
    """Sums within frames, and what all frames before make."""
    before, behind = [0] * axis, [dim.fixed for dim in law[axis + 1 :]]
    samples = SAMPLES_PER_CODE // MEL_FRAMES_PER_CODE
    split = new.stored("split", [*before, -1, samples, *behind])
    frames = new.add("Reshape", [terms, split], "frames")
    within = new.add("CumSum", [frames, new.stored("inner", [axis + 1])], "within")
    ends = new.add("Gather", [within, new.stored("last", [samples - 1])], "ends", axis=axis + 1)
    until = new.add("CumSum", [ends, new.stored("outer", [axis])], "until", exclusive=1)
    both = new.add("Add", [within, until], "both")
    return new.add("Reshape", [both, new.stored("joined", [*before, -1, *behind])], "summed")


def only_fraction_used(name: str, graph: EditableGraph) -> bool:
    """Whether whole turns in `name` change nothing: whatever reads it takes x − ⌊x⌋ or x mod 1."""
    same = _times_one(name, graph)
    floors = [r for x in same for r in graph.readers.get(x, []) if r.op_type == "Floor"]
    whole = {w for floor in floors for w in _times_one(floor.output[0], graph)}
    made_here = same | whole

    def harmless(reader: NodeProto) -> bool:
        if reader.op_type == "Sub" and reader.input[0] in same and reader.input[1] in whole:
            return True
        if reader.op_type == "Mod":
            remainder = not attributes(reader).get("fmod", 0)
            return remainder and reader.input[0] in same and _is_one(reader.input[1], graph)
        if reader.op_type == "Floor":
            return reader.input[0] not in whole
        if reader.op_type == "Shape" or reader.output[0] in made_here:
            return True
        if reader.input[0] in whole or reader.op_type not in KEEPS_FRACTION:
            return False
        return only_fraction_used(reader.output[0], graph)

    readers = [r for x in made_here for r in graph.readers.get(x, [])]
    return bool(readers) and all(harmless(reader) for reader in readers)


def _times_one(name: str, graph: EditableGraph) -> set[str]:
    """`name`, and what it becomes when multiplied or divided by 1, as exporters do."""
    scaled = [r for r in graph.readers.get(name, []) if r.op_type in ("Div", "Mul")]
    ones = (r for r in scaled if r.input[0] == name and _is_one(r.input[1], graph))
    return {name} | {r.output[0] for r in ones}


def _is_one(name: str, graph: EditableGraph) -> bool:
    return graph.number(graph.through(name)) == 1

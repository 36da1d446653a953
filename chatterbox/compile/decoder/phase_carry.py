"""Carries a vocoder's phase from one window to the next.

A neural source filter makes its harmonics from a running sum of the pitch (CumSum → sine). If the
sum began at 0 in every window, adjacent windows would be out of phase. Each sum therefore gets
inputs that set its value at one step to a value from the previous window, and an output with its
value at another step, for the next window.

The sum is computed in double precision. In single precision, one second's rounding shifts the
upper harmonics by half a turn. If the graph uses only the fraction of a turn, whole turns are
dropped before the sum is cast down: half precision would be too coarse after a second and infinite
after half a minute. A sum over samples becomes a sum over mel frames plus a sum within each frame,
because CumSum on a GPU takes quadratic time.
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
"""Operators whose result keeps its fraction of a turn when whole turns are added to the input."""


def find_phase_sums(model: onnx.ModelProto) -> list[PhaseSum]:
    """Return the running sums that a sine or cosine depends on."""
    graph = EditableGraph(model)
    sums = (node.output[0] for node in graph.of_type("CumSum"))
    return [PhaseSum(s) for s in sums if any(n.op_type in WAVES for n in _descendants(s, graph))]


def _descendants(name: str, graph: EditableGraph) -> Iterator[NodeProto]:
    """Yield every node that depends on `name`, up to and including sines and cosines."""
    wanted, seen = [name], {name}
    while wanted:
        for reader in graph.consumers.get(wanted.pop(), ()):
            yield reader
            new = set(reader.output) - seen if reader.op_type not in WAVES else set()
            seen |= new
            wanted += new


def check_phase_precision(
    model: onnx.ModelProto, sums: Iterable[PhaseSum], kinds: Mapping[str, int]
) -> None:
    """Raise ModelError if a sum with its whole turns is rounded to half precision before its sine.
    `kinds` are the sums' element types."""
    graph = EditableGraph(model)
    for name in (s.name for s in sums if not only_fraction_used(s.name, graph)):
        casts = [node for node in _descendants(name, graph) if node.op_type == "Cast"]
        if kinds[name] in HALF or any(attributes(node)["to"] in HALF for node in casts):
            raise ModelError(
                "this decoder rounds the phase of its harmonics to half precision, which is too"
                " coarse after one second of speech:"
                " set CHATTERBOX_CONDITIONAL_DECODER_DTYPE=fp32"
            )


def add_phase_inputs(
    model: onnx.ModelProto,
    sums: Mapping[PhaseSum, Sequence[LinearDim]],
    kinds: Mapping[str, int],
    *,
    wide: bool,
) -> None:
    """Add the inputs and the output of each sum. `kinds` are the sums' element types.

    Unless `wide`, the sum keeps the graph's precision, so that results are unchanged while the
    input `use` is 0. Proofs rely on this.
    """
    graph = EditableGraph(model)
    for s, shape in sums.items():
        node, axis = graph.producer[s.name], time_axis(shape)
        assert axis is not None
        inputs = [(s.carry, TensorProto.DOUBLE, None), (s.use, TensorProto.DOUBLE, [1])]
        inputs += [(s.anchor, TensorProto.INT64, [1]), (s.mark, TensorProto.INT64, [1])]
        model.graph.input.extend(helper.make_tensor_value_info(*value) for value in inputs)
        model.graph.output.append(
            helper.make_tensor_value_info(s.carry_out, TensorProto.DOUBLE, None)
        )
        new = graph.new(s.name)
        summed_in = TensorProto.DOUBLE if wide else kinds[s.name]
        terms = new.add("Cast", [node.input[0]], "terms", to=summed_in)
        if wide and _has_whole_frames(node, graph, shape, axis):
            summed = _sum_by_frames(new, terms, shape, axis)
        else:
            summed = new.add("CumSum", [terms, node.input[1]], "summed", **attributes(node))
        # sum + carry − use · (sum at the anchor), in double precision
        total = new.add("Cast", [summed], "sum", to=TensorProto.DOUBLE)
        there = new.add("Gather", [total, s.anchor], "there", axis=axis)
        undone = new.add("Mul", [there, s.use], "undone")
        phase = new.add("Add", [total, new.add("Sub", [s.carry, undone], "shift")], "set")
        new.add("Gather", [phase, s.mark], "told", axis=axis)
        if wide and only_fraction_used(s.name, graph):  # drop whole turns
            phase = new.add("Sub", [phase, new.add("Floor", [phase], "whole")], "turns")
        new.add("Cast", [phase], to=kinds[s.name])
    graph.rewrite()


def _has_whole_frames(
    node: NodeProto, graph: EditableGraph, shape: Sequence[LinearDim], axis: int
) -> bool:
    """Return whether `node` is a plain sum over the samples of whole mel frames."""
    over = graph.scalar(graph.before_casts(node.input[1]))
    if over is None or any(attributes(node).values()) or int(over) % len(shape) != axis:
        return False
    return shape[axis].per_code == SAMPLES_PER_CODE and shape[axis].fixed == 0


def _sum_by_frames(new: NewNodes, terms: str, shape: Sequence[LinearDim], axis: int) -> str:
    """Compute a running sum within each mel frame plus the total of all earlier frames."""
    leading, trailing = [0] * axis, [dim.fixed for dim in shape[axis + 1 :]]
    samples = SAMPLES_PER_CODE // MEL_FRAMES_PER_CODE
    split = new.stored("split", [*leading, -1, samples, *trailing])
    frames = new.add("Reshape", [terms, split], "frames")
    within = new.add("CumSum", [frames, new.stored("inner", [axis + 1])], "within")
    ends = new.add("Gather", [within, new.stored("last", [samples - 1])], "ends", axis=axis + 1)
    until = new.add("CumSum", [ends, new.stored("outer", [axis])], "until", exclusive=1)
    both = new.add("Add", [within, until], "both")
    return new.add("Reshape", [both, new.stored("joined", [*leading, -1, *trailing])], "summed")


def only_fraction_used(name: str, graph: EditableGraph) -> bool:
    """Return whether whole turns in `name` have no effect, because every consumer computes x − ⌊x⌋
    or x mod 1."""
    same = _scaled_by_one(name, graph)
    floors = [node for x in same for node in graph.consumers.get(x, []) if node.op_type == "Floor"]
    whole = {w for floor in floors for w in _scaled_by_one(floor.output[0], graph)}

    def ignores_turns(node: NodeProto) -> bool:
        if node.op_type == "Sub" and node.input[0] in same and node.input[1] in whole:
            return True
        if node.op_type == "Mod":
            is_remainder = not attributes(node).get("fmod", 0)
            return is_remainder and node.input[0] in same and _is_one(node.input[1], graph)
        if node.op_type == "Floor":
            return node.input[0] not in whole
        if node.op_type == "Shape" or node.output[0] in same | whole:
            return True
        if node.input[0] in whole or node.op_type not in KEEPS_FRACTION:
            return False
        return only_fraction_used(node.output[0], graph)

    consumers = [node for x in same | whole for node in graph.consumers.get(x, [])]
    return bool(consumers) and all(map(ignores_turns, consumers))


def _scaled_by_one(name: str, graph: EditableGraph) -> set[str]:
    """Return `name` and its products and quotients with 1, which some exporters emit."""
    scaled = [node for node in graph.consumers.get(name, []) if node.op_type in ("Div", "Mul")]
    copies = (node for node in scaled if node.input[0] == name and _is_one(node.input[1], graph))
    return {name} | {node.output[0] for node in copies}


def _is_one(name: str, graph: EditableGraph) -> bool:
    return graph.scalar(graph.before_casts(name)) == 1

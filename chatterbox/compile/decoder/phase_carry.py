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

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper, numpy_helper

from chatterbox.compile.decoder.graph_edit import Index, NewNodes, index, replace_nodes, through
from chatterbox.errors import ModelError
from chatterbox.hub.external_data import is_external
from chatterbox.runtime.decoder.graph_io import LinearDim, PhaseSum, time_axis
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE, SAMPLES_PER_CODE

SUM = "CumSum"
WAVES = frozenset({"Sin", "Cos"})
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
KEEPS_FRACTION = frozenset(
    {"Add", "Cast", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose result has the same fraction of a turn whatever whole turns come in."""


def find_sums(model: onnx.ModelProto) -> list[PhaseSum]:
    """Sums whose result goes into a sine."""
    graph = index(model.graph)
    found = []
    for node in model.graph.node:
        if node.op_type != SUM:
            continue
        seen, wanted = set(), [node.output[0]]
        waves = False
        while wanted and not waves:
            for reader in graph.consumers.get(wanted.pop(), ()):
                waves = waves or reader.op_type in WAVES
                new = [o for o in reader.output if o not in seen]
                seen.update(new)
                wanted += new
        if waves:
            found.append(PhaseSum(node.output[0]))
    return found


def sums_as_outputs(model: onnx.ModelProto, sums: list[PhaseSum]) -> None:
    """Let `model` tell its sums."""
    model.graph.output.extend(helper.make_empty_tensor_value_info(s.name) for s in sums)


def refuse_coarse_phase(
    model: onnx.ModelProto, sums: Iterable[PhaseSum], kinds: Mapping[str, int]
) -> None:
    """Raises ModelError where a sum goes to its sine in half precision, whole turns included;
    `kinds` are the sums' element types."""
    if any(_is_coarse(s.name, model, kinds[s.name]) for s in sums):
        raise ModelError(
            "this decoder rounds the phase of its harmonics to half precision before their sine, so"
            " that nothing is left of it after a second:"
            " set CHATTERBOX_CONDITIONAL_DECODER_DTYPE=fp32"
        )


def _is_coarse(name: str, model: onnx.ModelProto, kind: int) -> bool:
    graph = index(model.graph)
    if only_fraction_used(name, graph):
        return False
    if kind in HALF:
        return True
    wanted, seen = [name], {name}
    while wanted:
        for reader in graph.consumers.get(wanted.pop(), ()):
            if reader.op_type == "Cast" and any(a.i in HALF for a in reader.attribute):
                return True
            if reader.op_type not in WAVES:
                new = [o for o in reader.output if o not in seen]
                seen.update(new)
                wanted += new
    return False


def carry_over(
    model: onnx.ModelProto,
    sums: Mapping[PhaseSum, Sequence[LinearDim]],
    kinds: Mapping[str, int],
    *,
    wide: bool,
) -> None:
    """Give each sum its inputs and its output; `kinds` are their element types. Unless `wide`, sum
    as the graph does, so that nothing changes while `use` is 0 (for proofs)."""
    graph = model.graph
    for s, law in sums.items():
        known = index(graph)
        node = known.producer[s.name]
        axis = time_axis(law)
        assert axis is not None
        inputs = [(s.carry, TensorProto.DOUBLE, None), (s.use, TensorProto.DOUBLE, [1])]
        inputs += [(s.anchor, TensorProto.INT64, [1]), (s.mark, TensorProto.INT64, [1])]
        for name, kind, dims in inputs:
            graph.input.append(helper.make_tensor_value_info(name, kind, dims))
        graph.output.append(helper.make_empty_tensor_value_info(s.told))
        graph.output[-1].type.tensor_type.elem_type = TensorProto.DOUBLE
        new = NewNodes(graph, s.name)
        summed_in = TensorProto.DOUBLE if wide else kinds[s.name]
        terms = new.add("Cast", [node.input[0]], "terms", to=summed_in)
        if wide and _by_frames(node, known, law, axis):
            summed = _sum_by_frames(new, terms, law, axis)
        else:
            summed = new.name("summed")
            new.nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
            new.nodes[-1].input[0], new.nodes[-1].output[0] = terms, summed
        turns = wide and only_fraction_used(s.name, known)
        _carry(new, s, summed, axis, kinds[s.name], turns=turns)
        replace_nodes(graph, [node], new.nodes)


def _by_frames(node: onnx.NodeProto, known: Index, law: Sequence[LinearDim], axis: int) -> bool:
    """Whether the sum `node` is a plain one over the samples of whole mel frames."""
    over = known.initializers.get(through(node.input[1], known))
    if over is None or is_external(over) or any(a.i for a in node.attribute):
        return False
    same = int(numpy_helper.to_array(over).item()) % len(law) == axis
    return same and law[axis].per_code == SAMPLES_PER_CODE and law[axis].fixed == 0


def _sum_by_frames(new: NewNodes, terms: str, law: Sequence[LinearDim], axis: int) -> str:
    """Sums within frames, and what all frames before make."""
    before, behind = [0] * axis, [dim.fixed for dim in law[axis + 1 :]]
    samples = SAMPLES_PER_CODE // MEL_FRAMES_PER_CODE
    frames = new.add(
        "Reshape", [terms, new.stored("split", [*before, -1, samples, *behind])], "frames"
    )
    within = new.add("CumSum", [frames, new.stored("inner", [axis + 1])], "within")
    ends = new.add("Gather", [within, new.stored("last", [samples - 1])], "ends", axis=axis + 1)
    until = new.add("CumSum", [ends, new.stored("outer", [axis])], "until", exclusive=1)
    both = new.add("Add", [within, until], "both")
    return new.add("Reshape", [both, new.stored("joined", [*before, -1, *behind])], "summed")


def only_fraction_used(name: str, known: Index) -> bool:
    """Whether whole turns in `name` change nothing: whatever reads it takes x − ⌊x⌋ or x mod 1."""
    same = _times_one(name, known)
    floors = [r for x in same for r in known.consumers.get(x, []) if r.op_type == "Floor"]
    whole = {w for floor in floors for w in _times_one(floor.output[0], known)}
    made_here = same | whole

    def harmless(reader: onnx.NodeProto) -> bool:
        if reader.op_type == "Sub" and reader.input[0] in same and reader.input[1] in whole:
            return True
        if reader.op_type == "Mod":
            remainder = not any(a.name == "fmod" and a.i for a in reader.attribute)
            return remainder and reader.input[0] in same and _is_one(reader.input[1], known)
        if reader.op_type in ("Shape", "Floor") or reader.output[0] in made_here:
            return True
        if reader.input[0] in whole or reader.op_type not in KEEPS_FRACTION:
            return False
        return only_fraction_used(reader.output[0], known)

    readers = [r for x in made_here for r in known.consumers.get(x, [])]
    return bool(readers) and all(
        harmless(r) and not (r.op_type == "Floor" and r.input[0] in whole) for r in readers
    )


def _times_one(name: str, known: Index) -> set[str]:
    """`name`, and what it becomes when multiplied or divided by 1, as exporters do."""
    readers = known.consumers.get(name, [])
    scaled = [r for r in readers if r.op_type in ("Div", "Mul") and r.input[0] == name]
    return {name} | {r.output[0] for r in scaled if _is_one(r.input[1], known)}


def _is_one(name: str, known: Index) -> bool:
    constant = known.initializers.get(through(name, known))
    if constant is None or is_external(constant) or list(constant.dims) not in ([], [1]):
        return False
    return bool(numpy_helper.to_array(constant).item() == 1)


def _carry(new: NewNodes, s: PhaseSum, summed: str, axis: int, kind: int, *, turns: bool) -> None:
    """sum + carry − sum at the anchor, in double; the result in `kind`, with `turns` less its whole
    turns."""
    total = new.add("Cast", [summed], "sum", to=TensorProto.DOUBLE)
    there = new.add("Gather", [total, s.anchor], "there", axis=axis)
    undone = new.add("Mul", [there, s.use], "undone")
    made = new.add("Add", [total, new.add("Sub", [s.carry, undone], "shift")], "set")
    new.nodes.append(helper.make_node("Gather", [made, s.mark], [s.told], axis=axis))
    if turns:
        made = new.add("Sub", [made, new.add("Floor", [made], "whole")], "turns")
    new.add("Cast", [made], to=kind)

"""How does a vocoder's phase go on where the window before left it?

Knows running sums; nothing of windows. A neural source filter makes its harmonics from a running
sum of the pitch (CumSum → sine). Started anew in every window, the sum would begin at 0 each time,
and two windows would meet out of phase. Here each such sum gets inputs that set it, at a step of
the caller's choice, to a value read from the window before, and an output that gives the value at
another step for the window after. It is summed in double: in single precision the rounding of one
second alone shifts the upper harmonics by half a turn.
"""

import onnx
from onnx import TensorProto, helper

from chatterbox.compile.decoder.graph_edit import index, replace_nodes
from chatterbox.runtime.decoder.graph_io import PhaseSum

SUM = "CumSum"
WAVES = frozenset({"Sin", "Cos"})


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


def carry_over(
    model: onnx.ModelProto, sums: list[PhaseSum], axes: dict[str, int], *, wide: bool
) -> None:
    """Give each sum its inputs and its output; `axes` are the sums' time axes. Unless `wide`, sum
    as the graph does, so that nothing changes while `use` is 0 (for proofs)."""
    graph = model.graph
    producer = index(graph).producer
    for s in sums:
        node = producer[s.name]
        inputs = [(s.carry, TensorProto.DOUBLE, None), (s.use, TensorProto.DOUBLE, [1])]
        inputs += [(s.anchor, TensorProto.INT64, [1]), (s.mark, TensorProto.INT64, [1])]
        for name, kind, dims in inputs:
            graph.input.append(helper.make_tensor_value_info(name, kind, dims))
        graph.output.append(helper.make_empty_tensor_value_info(s.told))
        graph.output[-1].type.tensor_type.elem_type = TensorProto.DOUBLE
        kind = TensorProto.DOUBLE if wide else TensorProto.FLOAT
        replace_nodes(graph, [node], _carried(node, s, axes[s.name], kind))
        producer = index(graph).producer


def _carried(node: onnx.NodeProto, s: PhaseSum, axis: int, kind: int) -> list[onnx.NodeProto]:
    """sum + carry − sum at the anchor, in double; the sum itself in `kind`."""

    def part(what: str) -> str:
        return f"{s.name}.{what}"

    def make(kind: str, inputs: list[str], output: str, **attributes: int) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)

    summed = onnx.NodeProto()
    summed.CopyFrom(node)
    summed.input[0], summed.output[0] = part("terms"), part("summed")
    return [
        make("Cast", [node.input[0]], part("terms"), to=kind),
        summed,
        make("Cast", [part("summed")], part("sum"), to=TensorProto.DOUBLE),
        make("Gather", [part("sum"), s.anchor], part("there"), axis=axis),
        make("Mul", [part("there"), s.use], part("undone")),
        make("Sub", [s.carry, part("undone")], part("shift")),
        make("Add", [part("sum"), part("shift")], part("set")),
        make("Gather", [part("set"), s.mark], s.told, axis=axis),
        make("Cast", [part("set")], s.name, to=TensorProto.FLOAT),
    ]

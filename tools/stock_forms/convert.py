"""Converts an exported fp32 graph to the other four precisions with onnxruntime's tools.

What publishers use: blocks of 32 with zero points for MatMul and the position table, fp16 with the
boundary kept in fp32 but for the cache.
"""

import logging
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from chatterbox.hub.files import PRECISION_SUFFIX, Precision
from chatterbox.runtime.quantized_weights import Dense
from tools.stock_forms.plain import BITS, CONTRIB, STOCK_BLOCK
from tools.stock_forms.weights import quantize_weight


def convert(source: Path, precision: Precision, directory: Path) -> Path:
    """Write `source`, an fp32 graph, in `precision` into `directory`."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = directory / f"language_model{PRECISION_SUFFIX[precision]}.onnx"
    model = onnx.load(str(source))
    if precision in BITS:
        model = quantize_blocks(_without_gemm(model), BITS[precision])
    if precision in ("fp16", "q4f16"):
        boundary = ["inputs_embeds", "logits"]
        model = convert_float_to_float16(model, keep_io_types=boundary)
    path.unlink(missing_ok=True)
    sidecar = path.name + "_data"
    (directory / sidecar).unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=True, location=sidecar, size_threshold=1024)
    return path


def quantize_blocks(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    from onnxruntime.quantization import matmul_nbits_quantizer as tool

    logging.getLogger(tool.__name__).setLevel(logging.WARNING)
    config = tool.DefaultWeightOnlyQuantConfig(
        block_size=STOCK_BLOCK,
        is_symmetric=False,
        bits=bits,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantiser = tool.MatMulNBitsQuantizer(model, algo_config=config)
    quantiser.process()
    made: onnx.ModelProto = quantiser.model.model
    if bits == 8:
        _tables_in_8_bits(made.graph)
    return made


def _tables_in_8_bits(graph: onnx.GraphProto) -> None:
    """Lookups in 8 bits, as the published q8 files have them; the tool leaves these alone."""
    weights = {i.name: i for i in graph.initializer}
    for node in graph.node:
        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.data_type != onnx.TensorProto.FLOAT:
            continue
        blocks = quantize_weight(Dense(numpy_helper.to_array(table).T), 8, STOCK_BLOCK)
        parts = {"Q8": blocks.codes, "scales": blocks.scales, "zero_points": blocks.zero_points}
        names = [f"{table.name}_{part}" for part in parts]
        for name, values in zip(names, parts.values(), strict=True):
            flat = values.reshape(len(blocks.codes), -1)
            graph.initializer.append(numpy_helper.from_array(flat, name))
        graph.initializer.remove(table)
        node.CopyFrom(
            helper.make_node(
                "GatherBlockQuantized",
                [names[0], node.input[1], *names[1:]],
                list(node.output),
                f"{node.name}_Q8",
                domain=CONTRIB,
                bits=8,
                block_size=STOCK_BLOCK,
                gather_axis=0,
                quantize_axis=1,
            )
        )


def _without_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gemm as MatMul and Add: the quantiser reads MatMul alone."""
    nodes = []
    for node in model.graph.node:
        flipped = any(a.name == "transB" and a.i for a in node.attribute)
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        assert not flipped, "the exporters of T3 write x · W as it is stored"
        product = node.output[0] + ".product"
        nodes.append(helper.make_node("MatMul", list(node.input[:2]), [product]))
        nodes.append(helper.make_node("Add", [product, node.input[2]], list(node.output)))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model

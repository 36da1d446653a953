"""How does an exported fp32 graph become the other four precisions? By onnxruntime's own tools.

What publishers use: blocks of 32 with zero points for MatMul and the position table, fp16 with the
boundary kept in fp32 but for the cache.
"""

import logging
from pathlib import Path

import onnx
from onnx import helper

from chatterbox.runtime.contract import PRECISION_SUFFIX, Precision
from tools.stock_forms.plain import BITS, STOCK_BLOCK


def convert(source: Path, precision: Precision, directory: Path) -> Path:
    """Write `source`, an fp32 graph, in `precision` into `directory`."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = directory / f"language_model{PRECISION_SUFFIX[precision]}.onnx"
    model = onnx.load(str(source))
    if precision in BITS:
        model = quantize_blocks(_without_gemm(model), BITS[precision])
    if precision in ("fp16", "q4f16"):
        boundary = ["inputs_embeds", "logits"]
        model = convert_float_to_float16(
            model, keep_io_types=boundary, op_block_list=["GatherBlockQuantized"]
        )
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
    return quantiser.model.model


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

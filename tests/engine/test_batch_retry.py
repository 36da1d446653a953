"""Rows share a call, half of them share it, or each is alone."""

import pytest

from chatterbox.engine.model_calls import GROW_BACK_AFTER, SplittingBatch
from chatterbox.errors import GenerationFailed, OutOfMemory
from chatterbox.runtime.ort_errors import device_is_lost, is_out_of_memory, is_request_error

NO_MEMORY = RuntimeError(
    "/onnxruntime/core/framework/bfc_arena.cc:376 AllocateRawInternal: Failed to allocate memory"
    " for requested buffer of size 268435456"
)
LOST = RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")


class Device:
    """Takes `most` rows at once; `bad` rows raise."""

    def __init__(self, most: int, bad: tuple[int, ...] = (), fault: Exception = NO_MEMORY) -> None:
        self.most, self.bad, self.fault = most, bad, fault
        self.calls: list[int] = []

    def __call__(self, rows):
        self.calls.append(len(rows))
        if len(rows) > self.most:
            raise self.fault
        if any(row in self.bad for row in rows):
            raise ValueError("a bad row")
        return [row * 10 for row in rows]


def ran(batch: SplittingBatch, rows: list[int], device: Device) -> list[object]:
    """What came of each row, in their order: ten times itself, or its error."""
    results: dict[int, object] = {}
    done = batch.run(rows, device, lambda row, error: results.update({row: error}))
    for part, made in done:
        results |= dict(zip(part, made, strict=True))
    return [results[row] for row in rows]


def kinds(batch: SplittingBatch, rows: list[int], device: Device) -> list[object]:
    return [one if isinstance(one, int) else type(one) for one in ran(batch, rows, device)]


def test_all_at_once_where_that_goes():
    portions, device = SplittingBatch(is_request_error), Device(8)
    assert ran(portions, [], device) == []
    assert kinds(portions, [1, 2, 3], device) == [10, 20, 30]
    assert device.calls == [3]


def test_without_memory_half_of_them_once():
    portions, device = SplittingBatch(is_request_error), Device(3)
    assert kinds(portions, [1, 2, 3, 4, 5], device) == [10, 20, 30, 40, 50]
    assert device.calls == [5, 3, 2]
    ran(portions, [1, 2, 3, 4, 5], device)
    assert device.calls[3:] == [2, 2, 1]  # and it is remembered


def test_what_still_has_no_memory_fails_and_nothing_else():
    portions, device = SplittingBatch(is_request_error), Device(1)
    found = kinds(portions, [1, 2, 3], device)
    assert found == [OutOfMemory, OutOfMemory, 30]
    assert device.calls == [3, 2, 1]
    assert kinds(portions, [1, 2, 3], device) == [10, 20, 30]  # each alone by now
    (error,) = ran(SplittingBatch(is_request_error), [1], Device(0))
    assert error.retry_after_s


def test_a_bad_row_fails_alone_where_memory_is_short_too():
    for bad in (1, 2, 3, 4, 5):
        portions, device = SplittingBatch(is_request_error), Device(3, bad=(bad,))
        expected = [GenerationFailed if row == bad else 10 * row for row in (1, 2, 3, 4, 5)]
        assert kinds(portions, [1, 2, 3, 4, 5], device) == expected


def test_memory_may_come_back():
    portions, device = SplittingBatch(is_request_error), Device(2)
    ran(portions, [1, 2, 3, 4], device)
    device.most = 99
    for _ in range(GROW_BACK_AFTER):
        ran(portions, [1, 2, 3, 4], device)
    device.calls.clear()
    ran(portions, [1, 2, 3, 4], device)
    assert device.calls == [4]


def test_a_bad_row_fails_alone():
    portions, device = SplittingBatch(is_request_error), Device(8, bad=(2,))
    assert kinds(portions, [1, 2, 3], device) == [10, GenerationFailed, 30]
    assert kinds(portions, [2], device) == [GenerationFailed]


@pytest.mark.parametrize("rows", [[1], [1, 2, 3]])
def test_a_lost_device_is_raised(rows):
    with pytest.raises(RuntimeError, match="CUDA failure 700"):
        ran(SplittingBatch(is_request_error), rows, Device(0, fault=LOST))


def test_what_faults_mean():
    for text in (
        str(NO_MEMORY),
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc",
        "std::bad_alloc",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0",
    ):
        assert is_out_of_memory(RuntimeError(text))
        assert not device_is_lost(RuntimeError(text))
    assert is_out_of_memory(MemoryError())
    for text in (str(LOST), "CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", "CUBLAS failure 14"):
        assert device_is_lost(RuntimeError(text))
        assert not is_request_error(ValueError(text))
    for text in (
        "CUDA error: device-side assert triggered",
        "cudaErrorLaunchFailure: unspecified launch failure",
        "CUFFT failure 6: CUFFT_EXEC_FAILED ; GPU=0",
        "Non-zero status code: CUBLAS_STATUS_EXECUTION_FAILED",
        "/src/core/providers/cuda/cuda_call.cc:129 CUDA failure 719: CUDA_ERROR_LAUNCH_FAILED",
    ):
        assert device_is_lost(RuntimeError(text)), text
    for text in (
        "/onnxruntime_src/onnxruntime/core/providers/cuda/tensor/gather_impl.cc:40 Check failed",
        "Node 'Gather_12' on CUDAExecutionProvider: indices element out of data bounds, idx=9",
        "cudnn_conv1d_pad_to_nc1d is not an integer",
        "CUDNN failure 3000: CUDNN_STATUS_BAD_PARAM ; GPU=0",
        "CUDA failure 1: invalid argument ; GPU=0",
    ):
        assert not device_is_lost(RuntimeError(text)), text
        assert is_request_error(ValueError(text)), text
    assert is_request_error(IndexError())
    assert is_request_error(type("InvalidArgument", (Exception,), {})())
    assert not is_request_error(RuntimeError("what is this"))
    assert not is_request_error(MemoryError())

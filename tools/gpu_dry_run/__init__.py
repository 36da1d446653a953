"""Runs ONNX Runtime's CUDA provider without a GPU.

Stand-ins for libcuda, libcudart, cuBLAS, cuDNN, cuFFT and cuRAND are put before it: device memory
is host memory, kernels do nothing, and every launch, product, plan, copy, allocation and wait is
counted. docs/run/gpu.md says what that shows and what it cannot.
"""

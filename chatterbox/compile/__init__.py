"""Compiles published graphs: rewrites them once and proves that the result is equal."""

"""Streaming audio: encoding of float32 samples into files, and processing of the samples."""

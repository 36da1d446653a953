"""Float32 samples to files, piece by piece, and the processing of a stream of samples."""

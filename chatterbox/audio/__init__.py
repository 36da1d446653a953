"""Float32 samples into files and frames, incrementally."""

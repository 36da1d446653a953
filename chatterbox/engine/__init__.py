"""The heart: slots, schedule, sampling, decoding, one request's way."""

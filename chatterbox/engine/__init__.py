"""Sequences, scheduler, sampling, generation and vocoding, one request's stream."""

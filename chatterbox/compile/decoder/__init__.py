"""Compiles a codec decoder: cuts its graph in two, makes noise and phase inputs, and speeds it
up."""

"""Chatterbox Turbo."""

"""Rewrites a published graph once and proves the result; the only room that edits graphs."""

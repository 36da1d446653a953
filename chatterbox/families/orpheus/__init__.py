"""Orpheus: a Llama language model whose tokens are SNAC's."""

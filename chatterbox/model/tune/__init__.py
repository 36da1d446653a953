"""Stock language-model graph → a faster one that is proven to compute the same (`tuner.py`)."""

"""Stock forms of the language model, built to prove the tuned one against."""

"""What a model is: files, prompt, vocabulary, codec, voices, loading."""

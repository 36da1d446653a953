"""The files of a model: selection, download, and checks that they are complete."""

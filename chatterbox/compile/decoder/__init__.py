"""The codec decoder's graph, cut in two, its noise and phase made inputs."""

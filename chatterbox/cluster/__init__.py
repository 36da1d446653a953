"""Several replicas of the server behind one address, on one or more machines, with Ray Serve."""

"""Several replicas of the server behind one address, on one machine or many: by Ray Serve."""

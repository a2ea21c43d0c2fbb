"""One folder per op: the plain torch oracle, the fast torch path and the Triton kernel."""

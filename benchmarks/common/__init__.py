"""What several benchmarks need: pictures, command lines, processes, the machine, tables and files."""

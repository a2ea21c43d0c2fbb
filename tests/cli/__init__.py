"""Tests of the command line: a file for each command, and `test_main` for what all of them share."""

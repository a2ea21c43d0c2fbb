"""The command line of prow: parse, call one library function, print. Installed as `prow`."""

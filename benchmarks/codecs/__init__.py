"""The codecs that are compared. `families.FAMILIES` has them all; what each must be able to do is in `codec`."""

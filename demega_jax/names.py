"""Names that several rooms share. Nothing is imported here: the command line reads them before anything is loaded."""

SPLITS = ("train", "validation", "test")

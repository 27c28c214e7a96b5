"""Results in the words of other programs: Label Studio, CVAT, supervision, FiftyOne. Each file is one program."""

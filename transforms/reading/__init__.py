"""Records of any file format -> typed rows, split, labelled and checked alike."""

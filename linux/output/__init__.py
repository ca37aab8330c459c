"""The OutputStore: FIFOs for the recorder, segments for readers."""

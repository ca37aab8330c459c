"""The protocol between a supervisor and its recorder.

It is versioned like that of the server's socket: each side must understand the version before its own
(N-1). A supervisor that runs while the package is upgraded starts its next recorder from the new code.
Therefore the module path, the arguments and these messages never change or disappear; a new argument or
field must be optional for the receiver. Nothing negotiates: no version number is sent.
"""

MODULE = "worker.linux.recorder"
"""Started as ``python -P -m MODULE SOCKET_FD LOCK OFFSETS_FD``."""

ARGUMENTS = ("SOCKET_FD", "LOCK", "OFFSETS_FD")
"""The supervisor's socket, the path of the lock, and the memory of the shared offsets."""

TO_RECORDER = {
    "record": ("directory", "channels", "segment_size", "ends", "most_segments", "sinks", "terminal"),
    "finish": ("discard",),
    "drop": (),
    "feed": ("spool", "fifo", "end"),
    "stop_feeding": (),
    "relay": (),
    "log": ("format",),
    "bound": (),
}
"""Messages by their first key, whose value is the job (``log``: the level), with their other fields.

``record`` starts recording; it carries descriptors of the FIFOs, which hold them open until the recorder
has opened them. ``directory`` is that of the job, ``ends`` the index of each channel in the shared
offsets. ``most_segments`` is optional; 0 keeps all. ``sinks`` is optional and takes precedence over
``directory`` and the sizes: it has the fields of the RecordedFifo of each channel. ``terminal``: the job
has one, and ``relay`` follows with a descriptor of its master: what the job writes to it goes into the
FIFO. ``finish``: no process writes any more, drain; it may be repeated. ``discard``, which is optional:
the job is to be stopped in any case, so discard what cannot be recorded within a second.
``drop``: stop at once.
``feed`` moves the input in the spool of a job into its FIFO; it carries descriptors of both, and has their
inode numbers. A repeated one moves what was added since. ``end`` is the size of the whole input, if it is
known. ``stop_feeding``: close both. ``log``: the level and the format of the recorder's log.
``bound``: how many bytes the output of all its jobs may take; null: any number.
"""

TO_SUPERVISOR = {
    "drained": ("output", "missing"),
    "trouble": ("reason",),
    "fed": ("done", "closed", "lacking"),
    "lacks_terminal": (),
}
"""``drained``: everything is recorded; ``output`` is the size of each channel in bytes. ``missing``, which
is optional, is how many bytes of the end of a channel were discarded. ``trouble``: the output cannot be
recorded, and why; an empty ``reason``: it can be again. ``fed``: input was moved; ``done``: the last of it;
``closed``: the job reads no more; ``lacking``: the descriptors did not arrive. ``lacks_terminal``: that
of a terminal did not."""

"""The input of a job: how much of it is known, and which bytes continue it."""

from dataclasses import dataclass, field

from ..errors import InputMisplaced

JOB_HAS_ENDED = "the job has ended"
"""Why a job that has ended reads no more."""


@dataclass(frozen=True, slots=True)
class InputState:
    """How much of the input of a job is known.

    ``accepted``: the number of bytes that were accepted, and so the offset of the next one. ``ended``: no
    more follow. ``closed``: why the job reads no more, such as that it has closed its stdin; empty: it may.
    ``writer``: who has written last, as InteractiveProcess.set_input_writer has recorded it.
    """

    accepted: int = 0
    ended: bool = False
    closed: str = ""
    writer: str = field(default="", compare=False)

    def new_bytes(self, offset: int, data: bytes) -> bytes:
        """Return those of the bytes that were not accepted yet; InputMisplaced if they do not fit."""
        if offset > self.accepted:
            raise InputMisplaced(f"the input continues at byte {self.accepted}, not at {offset}")
        new = data[self.accepted - offset :]
        if new and self.ended:
            raise InputMisplaced(f"the input has ended at byte {self.accepted}")
        return new

    def check_end(self, offset: int) -> None:
        """Raise InputMisplaced unless the input may end at this offset."""
        if offset != self.accepted:
            raise InputMisplaced(
                f"the input cannot end at byte {offset}: {self.accepted} bytes were accepted"
            )

"""Why a video was not saved."""


class NotSaved(Exception):
    """A video could not be saved. It is not the result of a call: the job itself is completed.

    Attributes:
        what: one plain sentence, without the address of the video.
        step: what the operator of the server can do, in a sentence; "" if `what` says it.
        final: whether trying again cannot help.
    """

    def __init__(self, what: str, *, final: bool, step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.step = step
        self.final = final

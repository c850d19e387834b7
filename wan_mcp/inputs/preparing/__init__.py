"""Prepares a file of this computer before it is sent: what leaves is what the job needs, no more.

* Only the seconds that were ordered, from the beginning of the media fragment on.
* Nothing that says where, when and with what it was recorded.
* What every program reads: H.264 of 8 bits in an MP4, a JPEG or a PNG, upright, with square pixels,
  with a constant frame rate, at most 1,920 pixels a side, and SDR.

A file that is like this already is sent as it is. What can be copied is not encoded again.

**Where it runs.** `prepare` stays small: a process of its own with limits (see `decoder_process`)
does the work. It is given the open file that was checked, not a path that may lead to another one
by now, and it writes into a folder of ours.

**When it fails.** The original is sent in its place, with a note, only where that does no harm: it
begins at the ordered second, most programs read its format, and no location was found in it.
Otherwise the request is not sent.
"""

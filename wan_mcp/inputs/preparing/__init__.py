"""Prepares a file of this computer before it is sent, so that only what the job needs is sent:

* only the seconds that were ordered, from the beginning of the media fragment on;
* nothing that says where, when and with what it was recorded;
* a form that every program reads: H.264 with 8 bits in an MP4, a JPEG or a PNG, upright, with
  square pixels, a constant frame rate, at most 1,920 pixels a side, and SDR.

A file that has this form already is sent as it is. What can be copied is not encoded again.

**Where it runs.** `prepare` stays small: a process of its own with limits (see `decoder_process`)
does the work. It is given the open file that was checked, not a path that may lead to another one
by now, and it writes into a folder of ours.

**When it fails.** The original is sent instead, with a note, only if that does no harm: if it
begins at the ordered second, most programs read its format, and no location was found in it.
Otherwise the request is not sent.
"""

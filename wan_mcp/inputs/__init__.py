"""Checks of both inputs before anything is paid.

Two principles hold everywhere in this room, and its tests are about them.

**Certain evidence refuses, everything else is a note.** PixelDojo fetches the files itself, from
elsewhere, at another time and with other programs. A refusal that a knowledgeable user would call
wrong is worse than a wasted job: the user cannot work at all. Certain is only

* what no other place or program sees differently: an address in a private network, a host that
  does not exist, an empty file, a web page where the file should be;
* a type that is shown by the bytes and is not the type of the argument: a picture as video, a
  drawing of text (SVG) as picture;
* the size of an image, where common programs refuse it or nothing can be seen on it;
* the end of a file: a part of an image or pictures of a video that lie beyond it, an end mark that
  is missing in an image which has been read whole, last bytes that are still the inside of a
  picture (an end mark that is only not found is none: some programs append data of their own);
* the length of the video track, when its pictures were counted, or when the header and the index
  of an MP4 agree that it is too short;
* pictures that are encrypted: their key is nowhere in the file.

How an image is turned, its colours, a format that is not in use everywhere, a length in only one
field, a status of a server that may dislike us: these are notes.

**Bytes win over headers.** What the file contains decides about its type, whatever its name and its
server say, and the index or the pictures decide about its length, whatever one field of it says.
A contradiction between them is a note, because some program may believe the wrong one.

What cannot be read is no evidence at all: a crash, a hang or a refusal of memory of the process
that reads it (see `decoder_process`) and an error of ours are reported as "could not be looked at".
What the server itself does with strangers' bytes is one pass over a bounded number of them.
"""

"""Checks of both inputs before anything is paid.

Two principles hold everywhere in this room, and its tests are about them.

**Certain evidence refuses, everything else is a note.** PixelDojo fetches the files itself, from
elsewhere, at another time and with other programs. A refusal that a knowledgeable user would call
wrong is worse than a wasted job, because that user cannot work at all. Only this is certain:

* what no other place or program sees differently: an address in a private network, a host that
  does not exist, an empty file, a web page where the file should be;
* a type that is shown by the bytes and is not the type of the argument: a picture as video, a
  drawing in the form of text (SVG) as picture;
* the size of an image, if common programs refuse it or nothing can be seen on it;
* a missing end: a part of an image or pictures of a video that lie beyond the end of the file, no
  end mark in an image that has been read whole, last bytes that are still the inside of a picture
  (an end mark that was only not found proves nothing: some programs append data of their own);
* the length of the video track, if its pictures were counted, or if the header and the index of an
  MP4 agree that it is too short;
* encrypted pictures: their key is nowhere in the file.

How an image is turned, its colours, a format that is not in use everywhere, a length in only one
field, a status of a server that may only refuse this program: these are notes.

**Bytes win over headers.** The content of a file decides its type, whatever its name and its server
say, and the index or the pictures decide its length, whatever one field of it says. A contradiction
between them is a note, because some program may believe the wrong one.

What cannot be read is no evidence at all: if the process that reads it (see `decoder_process`)
crashes, hangs or runs out of memory, or if our own code fails, the file "could not be looked at".
The server itself only makes one pass over a bounded number of strangers' bytes.
"""

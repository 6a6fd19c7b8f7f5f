"""What is written at the root of every mount, for people and for programs that walk through everything.

The same for everyone: it names no server, no user and no patient.
"""

README = b"""\
This folder shows a Kheops server. It is read-only: nothing can be written,
renamed or deleted here, and nothing you do here changes the server.

inbox/         what was sent to you, outside of albums (only with a user token)
albums/        one folder for each album, with the series that are in that album
studies/       everything the token can see, each study once

Below each of these: <study>/<series>/<instance>.dcm. Series folders hold DICOM
files and nothing else.

thumbnails/    the same folders with a JPEG picture for each series and each
               instance that can be drawn
zip/           the same folders with each study as one zip file from the server
by-uid/        links from each StudyInstanceUID to its folder in studies/

Names are made from dates, numbers and descriptions; the last part identifies
the album, study, series or instance. Dates of files and folders are those of
the examination.

Sizes: the server does not tell how large a file is before it has been read.
Until a file has been opened for the first time its size is shown as an upper
bound, never too small; from then on it is exact. The extended attribute
user.kheops.size says which of the two it is. Programs that trust the size of a
file they have not opened yet (some archivers) need exact sizes: mount with
--sizes=exact, or run "kheopsfs pull" on the folder first.

Other details are in extended attributes: try "getfattr -d" on a study, a series
or an instance.

Help: kheopsfs --help
"""

NOMEDIA = b"""\
This file asks programs that index media to leave this folder alone: it shows a
server, and reading a file here means fetching it from there.
"""
"""GNOME's LocalSearch (Tracker) and media scanners index nothing in and below a folder that holds a `.nomedia`. It is
here and in no other folder, because the others hold DICOM only. A CACHEDIR.TAG would keep backups away as well, but
`cp -r` would take it along, and then a backup would leave out the copy without a word."""

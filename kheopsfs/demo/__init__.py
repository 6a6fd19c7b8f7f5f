"""A server that speaks Kheops, with sample studies: for trying kheopsfs out, for its tests and its benchmarks.

It stands in for the whole public origin of a Kheops installation: nginx's routing, the Authorization service (tokens,
albums, study and series lists), the DICOMweb proxy with a dcm4chee behind it, and the Zipper. It repeats what a client
can see of them, awkward parts included, as the Kheops contract describes them; it takes no writes. It knows nothing of
the client: what both believe about Kheops is written twice on purpose.
"""

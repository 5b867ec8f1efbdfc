"""A registry: the OCI distribution specification, version 1.1, over a directory of blobs or an OCI layout.

cli: registry serve │ gc
      └─ process.py             the options, the listening socket, signals
           ├─ collect.py        gc: mark and sweep
           ├─ tls.py            channels under TLS; the others are http11's
           └─ server.py         one connection's requests: who may, which handler, the log's line
                ├─ access.py htpasswd.py                         users and tokens
                ├─ routes.py ranges.py pages.py document.py      paths, headers, lists, manifests: pure
                ├─ uploading.py pulling.py manifests.py listing.py    the handlers
                └─ store.py     what they work on
                     ├─ blobs.py uploads.py       bytes: named by their digest, or on the way
                     └─ directory.py layout.py    which repository has what: our own form, or an OCI layout
"""
